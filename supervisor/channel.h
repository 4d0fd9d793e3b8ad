/* SPDX-License-Identifier: MIT */
/* A channel as the supervisor knows it: what it holds (hold.h), who works on it, and the state machine. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_H
#define HOLDFAST_SUPERVISOR_CHANNEL_H

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/message.h"
#include "supervisor/child.h"
#include "supervisor/hold.h"
#include "supervisor/obituary.h"
#include "supervisor/restart_policy.h"

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
    CHANNEL_EVENT_START,       /* an operator or the beginning */
    CHANNEL_EVENT_OPENED,      /* sockets and ring are there, the log is there or is known to fail */
    CHANNEL_EVENT_OPEN_FAILED, /* a socket or the ring can't be had now */
    CHANNEL_EVENT_READY,
    CHANNEL_EVENT_DIED,        /* the worker has been waited for */
    CHANNEL_EVENT_TIMER,       /* the state's deadline or backoff has passed */
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
    char state_cause[160];  /* why it is in this state, for status */
    bool wanted;            /* should run: false after an operator's stop */
    bool restart_wanted;    /* STOPPING leads to OPENING again */
    struct hold hold;
    struct child *worker;   /* NULL when none */
    uint64_t generation;    /* of the last worker that was assigned */
    uint32_t restarts;
    monotonic running_since;
    monotonic next_start;   /* BACKOFF */
    uint32_t deaths_in_a_row;
    enum death_cause last_death_cause;
    sd_event_source *timer; /* the state's deadline */
    struct obituary_list obituaries;
    struct counters carried; /* from rings that had to be given up */
    struct counters last_seen;
    /* recording */
    enum channel_log_state log_state;
    char log_trouble[MESSAGE_REASON_SIZE];
    uint64_t log_next_seq;  /* from RECOVERED */
    bool log_recovered;
    bool next_requested;
    bool rotate_wanted;
    uint32_t log_failures;  /* in a row */
    sd_event_source *log_timer;
};

int channel_new(struct supervisor *supervisor, struct channel_spec *spec, struct channel **ret);
void channel_free(struct channel *channel);

/* Feed one event to the state machine. cause says why, for the log and for status. */
void channel_handle(struct channel *channel, enum channel_event event, const char *cause);

/* From the worker. Takes the fds it wants out of the message. */
void channel_handle_message(struct channel *channel, struct message *message);

/* The ledger now; false when the ring can't be read (the last known values are given then). */
bool channel_read_counters(struct channel *channel, struct counters *ret, uint64_t *ret_pending);

/* channel_log.c: what the archive answers, and what the worker asks of it. */
void channel_log_begin(struct channel *channel);
void channel_log_handle(struct channel *channel, struct message *message);
void channel_log_wanted(struct channel *channel);
void channel_log_done(struct channel *channel, const struct message_segment_done *done);
void channel_log_failed(struct channel *channel, const struct message_log_failed *failed);
void channel_log_archive_gone(struct channel *channel);
void channel_log_seal_all(struct channel *channel); /* after a final stop: length from BYE or the channel page */

/* Verbs of the control socket. 0, or -errno with *ret_why for the operator ("it is stopped: start it first"). */
int channel_start(struct channel *channel, const char **ret_why);
int channel_stop(struct channel *channel, const char **ret_why);
int channel_restart(struct channel *channel, const char **ret_why);
int channel_reset_failed(struct channel *channel, const char **ret_why);
int channel_rotate(struct channel *channel, const char **ret_why);

#endif
