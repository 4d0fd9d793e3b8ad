/* SPDX-License-Identifier: MIT */
/* A channel as the supervisor knows it: what it holds (hold.h), who works on it, and the state
 * machine. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_H

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/message.h"
#include "supervisor/child/child.h"
#include "supervisor/hold/hold.h"
#include "supervisor/channel/obituary.h"
#include "supervisor/policy/restart_policy.h"

struct supervisor;

enum channel_state {
    CHANNEL_DOWN,     /* not yet begun */
    CHANNEL_OPENING,  /* sockets, ring, log */
    CHANNEL_STARTING, /* assigned, waiting for READY with a deadline */
    CHANNEL_RUNNING,
    CHANNEL_STOPPING, /* STOP sent, waiting for BYE and the exit with a deadline */
    CHANNEL_BACKOFF,  /* waiting for next_start */
    CHANNEL_FAILED,   /* gave up: reset-failed or start begins anew */
    CHANNEL_STOPPED,  /* by an operator */
    CHANNEL_STATE_COUNT
};

extern const char *const channel_state_names[CHANNEL_STATE_COUNT]; /* "DOWN", ... as in status */

enum channel_event {
    CHANNEL_EVENT_START,  /* an operator or the beginning */
    CHANNEL_EVENT_OPENED, /* sockets and ring are there, the log is there or is known to fail */
    CHANNEL_EVENT_OPEN_FAILED, /* a socket or the ring can't be had now */
    CHANNEL_EVENT_READY,
    CHANNEL_EVENT_DIED,  /* the worker has been waited for */
    CHANNEL_EVENT_TIMER, /* the state's deadline or backoff has passed */
    CHANNEL_EVENT_STOP,
    CHANNEL_EVENT_RESTART,
    CHANNEL_EVENT_RESET,
    CHANNEL_EVENT_COUNT
};

/* What the channel's recording needs from the archive; independent of the worker's state. */
enum channel_log_state {
    LOG_NONE,       /* not recording */
    LOG_RECOVERING, /* RECOVER sent */
    LOG_OPENING,    /* OPEN_SEGMENT sent, no current segment */
    LOG_OPEN,       /* there is a current segment */
    LOG_TROUBLE,    /* failed; retried at log_retry */
};

struct channel {
    struct supervisor *supervisor;
    struct channel_spec *spec; /* owned by the settings */
    enum channel_state state;
    monotonic state_since;
    char state_cause[160]; /* why it is in this state, for status */
    bool wanted;           /* should run: false after an operator's stop */
    bool restart_wanted;   /* STOPPING leads to OPENING again */
    struct hold hold;
    struct child *worker; /* NULL when none */
    uint64_t generation;  /* of the last worker that was assigned */
    uint32_t restarts;
    monotonic running_since;
    monotonic next_start; /* BACKOFF */
    uint32_t deaths_in_a_row;
    uint32_t open_failures;            /* in a row */
    enum death_cause last_death_cause; /* of the worker before, told to the next one */
    enum channel_thread last_death_thread;
    uint64_t quarantined_before; /* when the worker before died */
    sd_event_source *timer;      /* the state's deadline */
    bool reported;               /* has run or said why not: counts for READY=1 */
    struct obituary_list obituaries;
    struct counters carried;   /* from rings that had to be given up */
    struct counters last_seen; /* of the present ring alone, as last read */
    uint64_t last_pending;
    uint64_t
        seq_end; /* no number below it is given again: where a fresh ring begins at the least */
    uint64_t ring_start_seq;   /* what the present ring was made with */
    bool ring_was_fresh;       /* when the present worker got it */
    uint64_t drops_at_death;   /* kernel_dropped when the last worker died */
    bool cost_unknown;         /* the newest obituary waits for what the takeover cost */
    uint64_t takeover_seq;     /* no datagram after it was received when the last worker died ... */
    uint64_t takeover_time_ns; /* ... and its successor was ready at this time; wall clock */
    struct message_bye bye;
    bool bye_said;                         /* by the last worker: bye is what it said */
    bool stop_seals;                       /* the STOP that was sent asked for sealed segments */
    bool ring_refused;                     /* by a worker: OPENING makes a fresh one */
    char ring_reason[MESSAGE_REASON_SIZE]; /* from READY: why the mapping is what it is; "" for
                                              double */
    bool renumber;    /* the log goes on beyond this ring's numbers: OPENING makes a fresh one */
    bool disk_warned; /* THREAD_DISK was told once */
    uint64_t
        *stored; /* handover.c: what the manager keeps at each place of the hold; 0 = nothing */
    bool store_behind; /* not all of it is there yet */
    bool not_stored;   /* the manager can't keep so many */
    bool restored; /* with a ring from an earlier supervisor that had a log: their numbers agree */
    uint32_t drains; /* workers started only to drain, since the stop was asked for */
    /* recording */
    enum channel_log_state log_state;
    char log_trouble[MESSAGE_REASON_SIZE];
    uint64_t log_next_seq; /* from RECOVERED */
    bool log_recovered;
    bool next_requested;
    bool rotate_wanted;
    uint32_t log_failures; /* in a row */
    sd_event_source *log_timer;
    bool next_retry; /* the next segment could not be had: asked again by log_timer */
    bool cleaning;   /* RECOVER was sent beside a segment in use; no BEGIN_SEGMENT before it was
                        answered */
    bool log_waited; /* OPENING has waited long enough for the log once */
    bool log_begun;  /* the current segment: BEGIN_SEGMENT was sent */
    char log_began_as[SEGMENT_NAME_SIZE]; /* its name before that */
};

int channel_new(struct supervisor *supervisor, struct channel_spec *spec, struct channel **ret);
void channel_free(struct channel *channel);

/* Feed one event to the state machine. cause says why, for the log and for status. */
void channel_handle(struct channel *channel, enum channel_event event, const char *cause);

/* What the table does for an event in a state: the action's name, "impossible" where it can't
 * happen. */
const char *channel_action_name(enum channel_state state, enum channel_event event);

/* channel_worker.c: the channel's side of its worker. */

/* Hand the hold to a worker. 0, or -errno with why. */
int channel_assign(struct channel *channel, char *why, size_t why_size);
/* From the worker. Takes the fds it wants out of the message. */
void channel_handle_message(struct channel *channel, struct message *message);
/* It was waited for: obituary, ledger, then the event DIED. */
void channel_worker_ended(struct channel *channel, const siginfo_t *end);
/* Its successor is READY: complete the newest obituary. */
void channel_note_takeover(struct channel *channel, const struct message_ready *ready);
/* A little later: what the takeover cost. */
void channel_complete_obituary(struct channel *channel);
/* Give up the ring: its counters are carried on, what was pending counts as lost. */
void channel_retire_ring(struct channel *channel);

/* The ledger now; false when the ring can't be read (the last known values are given then). */
bool channel_read_counters(struct channel *channel, struct counters *ret, uint64_t *ret_pending);

/* channel_log.c: what the archive answers, and what the worker asks of it. */
void channel_log_begin(struct channel *channel); /* OPENING: get a segment if there is none */
bool channel_log_settled(const struct channel *channel); /* there, not wanted, or known to fail */
bool channel_log_quiet(const struct channel *channel);   /* no answer is outstanding */
void channel_log_archive_back(struct channel *channel);
void channel_log_handle(struct channel *channel, struct message *message);
void channel_log_wanted(struct channel *channel);
void channel_log_done(struct channel *channel, const struct message_segment_done *done);
void channel_log_failed(struct channel *channel, const struct message_log_failed *failed);
int channel_log_rotate(struct channel *channel, const char **ret_why);
/* Let go of both segments: after a final stop (length from BYE), or because the ring they belong to
 * is given up. */
void channel_log_seal_all(struct channel *channel);

/* channel_verbs.c: verbs of the control socket. 0, or -errno with *ret_why for the operator ("it is
 * stopped: start it first"). */
int channel_start(struct channel *channel, const char **ret_why);
int channel_stop(struct channel *channel, const char **ret_why);
int channel_restart(struct channel *channel, const char **ret_why);
int channel_reset_failed(struct channel *channel, const char **ret_why);
int channel_rotate(struct channel *channel, const char **ret_why);

#endif
