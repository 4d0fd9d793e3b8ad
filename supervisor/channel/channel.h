/* SPDX-License-Identifier: MIT */
/* A channel as the supervisor knows it: what it holds (hold.h), who works on it, how it stands. The
 * files above this one each look after one part of it. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_H

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/counters.h"
#include "common/message.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/child/child.h"
#include "supervisor/child/obituary.h"
#include "supervisor/child/restart.h"
#include "supervisor/child/spares.h"
#include "supervisor/config/settings.h"
#include "supervisor/gate/gate_client.h"
#include "supervisor/hold/hold.h"
#include "supervisor/hold/store.h"
#include "supervisor/policy/receive_rate.h"
#include "supervisor/policy/restart_policy.h"
#include "supervisor/system/timer.h"

enum channel_state {
    CHANNEL_DOWN,     /* not yet begun */
    CHANNEL_OPENING,  /* sockets, ring, first segment */
    CHANNEL_STARTING, /* assigned, waiting for READY with a deadline */
    CHANNEL_RUNNING,
    CHANNEL_STOPPING, /* STOP sent, waiting for BYE and the exit with a deadline */
    CHANNEL_BACKOFF,  /* waiting for next_start */
    CHANNEL_FAILED,   /* gave up: reset-failed or start begins anew */
    CHANNEL_STOPPED,  /* by an operator */
    CHANNEL_STATE_COUNT
};

extern const char *const channel_state_names[CHANNEL_STATE_COUNT]; /* "DOWN", ... as in status */

/* What the channel's recording needs from the archive; independent of the worker's state. */
enum recording_state {
    RECORDING_NONE,       /* not recording */
    RECORDING_RECOVERING, /* RECOVER sent */
    RECORDING_OPENING,    /* OPEN_SEGMENT sent, no current segment */
    RECORDING_OPEN,       /* there is a current segment */
    RECORDING_TROUBLE,    /* failed; asked again by the timer */
};

/* What the supervisor as a whole is about. It only goes forward, but for an upgrade that is given
 * up.
 */
enum phase {
    PHASE_RUNS,
    PHASE_PARKS,   /* for an upgrade: channels wait in OPENING, nothing is started */
    PHASE_STOPS,   /* in order */
    PHASE_HURRIES, /* what still runs has been killed */
};

struct channel_counts {
    size_t in_state[CHANNEL_STATE_COUNT];
    size_t unreported; /* channels that have neither run nor said why not */
};

/* What every channel needs of the rest. */
struct channel_host {
    sd_event *event;
    const struct settings *settings;
    struct spares *spares;
    struct archive_client *archive;
    struct gate_client *gate; /* NULL: nobody serves readers */
    struct store *store;
    struct shredder *shredder;
    struct restart_share share; /* of the processors, for all restarts of workers */
    struct child_owner worker;  /* of every worker; data is the channel */
    enum phase phase;
    bool upgraded; /* this program was executed by an upgrade: channels have run before */
    struct channel_counts counts;
    uint32_t made;               /* channels, so far */
    void (*changed)(void *data); /* a channel's state, or whether its recording is quiet */
    void *data;
};

/* An attempt to open that has failed, and was told. */
struct channel_told {
    char cause[320]; /* "" = none since something else happened */
    uint32_t times;  /* that it has failed so */
    monotonic at;
};

struct channel_life {
    enum channel_state state;
    monotonic since;
    char cause[320];        /* why it is in this state, for status */
    bool wanted;            /* should run: false after an operator's stop */
    bool kept_stopped;      /* by an operator, until one starts it: outlives this process */
    bool restart_wanted;    /* STOPPING leads to OPENING again */
    bool stop_seals;        /* the STOP that was sent asked for sealed segments */
    bool reported;          /* has run or said why not: counts for READY=1 */
    uint64_t ready_within;  /* nanoseconds that the worker has from its start to READY */
    uint32_t late_starts;   /* in a row, of workers that did not become READY in time */
    uint32_t drains;        /* workers started only to drain, since one of them got on with it */
    monotonic stop_began;   /* when it was asked for */
    struct restart restart; /* deaths of its workers */
    struct restart opening; /* failures to open what it needs */
    struct channel_told told;
    monotonic next_start;   /* BACKOFF */
    bool worker_waited_for; /* BACKOFF after a death, not for a socket that can't be opened */
    struct timer timer;     /* the state's deadline */
};

/* How far a channel's work had come. */
struct channel_mark {
    bool known;
    uint64_t published, relayed, committed, decimated;
};

/* The worker that works on the hold, and what it has said. */
struct channel_lent {
    struct channel_mark mark;              /* when it got the hold */
    struct child *worker;                  /* NULL when none */
    uint64_t generation;                   /* of the last one that was assigned */
    bool never_began;                      /* the last worker could not be had, or executed */
    bool ring_was_fresh;                   /* when the present worker got it */
    bool ring_refused;                     /* by a worker: OPENING makes a fresh one */
    char ring_reason[MESSAGE_REASON_SIZE]; /* from READY: why the mapping is what it is; "" for
                                              double */
    bool ready;                            /* the present worker is: its beats count */
    bool bye_received;                     /* from the last worker: bye is what it said */
    struct message_bye bye;
};

/* Signs of life that the present worker did not give. */
struct channel_hang {
    bool aborted;    /* its end was asked for: what follows is a hang's end */
    char thread[16]; /* that hung */
    monotonic abort_sent;
    bool killed_for_silence;
    monotonic kill_sent; /* by this process, because it hung or hung up */
    bool dead;           /* and can't end: one of its threads waits in the kernel, as for a disk */
    bool disk_warned;    /* THREAD_DISK was told once */
    /* When each was last seen to wait for a disk. */
    monotonic at_disk[CHANNEL_THREAD_COUNT];
};

/* The newest datagram that was received. */
struct channel_newest {
    bool known;
    uint64_t seq;
    uint64_t time_ns; /* wall clock, from the kernel */
    union socket_address source;
};

struct channel_ledger {
    struct counters carried;                   /* from rings that had to be given up */
    struct counters last_seen;                 /* of the present ring alone, as last read */
    struct destination_progress *destinations; /* of each of the settings', from those rings */
    uint64_t last_pending;
    uint64_t
        seq_end; /* no number below it is given again: where a fresh ring begins at the least */
    uint64_t unnoted_end;  /* numbers below it were given, and the log may not say so; 0: it does */
    uint64_t retired_pair; /* of the ring whose counters were carried last */
    uint64_t ring_start_seq; /* what the present ring was made with */
    uint32_t restarts;
    struct receive_rate rate;
    struct channel_newest newest; /* of the rings that had to be given up */
    monotonic unreadable_since;   /* at each look since then; ns = 0: it can be read */
};

struct channel_silence {
    uint64_t received; /* as last seen, and unchanged ... */
    monotonic since;   /* ... since then; ns = 0: not yet looked */
    bool told;
};

/* From a worker's death until it is known what that cost. */
struct channel_takeover {
    enum death_cause cause; /* of the worker before, told to the next one */
    enum channel_thread thread;
    uint64_t quarantined_before; /* when the worker before died */
    uint64_t drops_at_death;     /* kernel_dropped when the last worker died */
    bool cost_unknown;           /* the newest obituary waits for what the takeover cost */
    uint64_t from_seq; /* no datagram after it was received when the last worker died ... */
    uint64_t ready_ns; /* ... and its successor was ready at this time; wall clock */
};

/* Segments that a worker has left: the disk may still refuse what is in them. */
#define LEFT_SEGMENTS_KEPT 8

struct channel_recording {
    enum recording_state state;
    struct segment_grant left[LEFT_SEGMENTS_KEPT]; /* by its worker, in turn; id 0 = none */
    uint32_t left_next;
    char trouble[MESSAGE_REASON_SIZE];
    uint64_t next_seq; /* from RECOVERED */
    bool recovered;
    uint32_t unfinished;      /* files that RECOVER has left as they are, at the least */
    uint32_t cleanings;       /* when they were to be tried again, in a row */
    bool cleaned_last;        /* at the end of everything: asked once more */
    monotonic recovery_began; /* the one that is to be answered */
    bool next_requested;
    bool next_retry; /* the next segment could not be had: asked again by the timer */
    bool cleaning;   /* RECOVER was sent beside a segment in use; no BEGIN_SEGMENT before it was
                        answered */
    bool waited;     /* OPENING has waited long enough for it once */
    bool publishers_told;             /* ... and waits on, which the log says */
    bool begun;                       /* the current segment: BEGIN_SEGMENT was sent */
    char began_as[SEGMENT_NAME_SIZE]; /* its name before that */
    bool renumber; /* it goes on beyond this ring's numbers: OPENING makes a fresh one */
    bool restored; /* with a ring from an earlier supervisor that recorded: their numbers agree */
    bool placed;   /* where numbers go on is known: from the archive, or by a ring that knew it */
    uint32_t failures; /* in a row */
    uint32_t refusals; /* segments in a row that were made, and could not be written */
    struct timer timer;
    sd_event_time_handler_t on_retry; /* the state machine's: an attempt may settle the recording */
};

/* What the last worker has committed, and the archive is asked to make durable. */
struct channel_durability {
    bool asked;
    bool told; /* that the disk has refused it */
    uint64_t turn;
    monotonic asked_at;
    uint64_t segment_id, offset; /* what is durable when it has answered */
    uint64_t id[2];              /* of the segments that it was asked for; 0 = none */
};

struct channel;

/* What the kernel had queued when nobody was left to receive it. */
struct channel_discard {
    struct slices slices;
    monotonic began;
    uint64_t count;
    void (*done)(struct channel *channel);
};

/* What it has of a configuration before this one: that is dealt with first (channel_former.c). */
struct channel_former {
    bool removed;  /* the present one doesn't have it at all: it ends when that is done */
    bool recorded; /* by that configuration, as the history tells */
    struct channel_spec *configured; /* what spec will be then; NULL: it is that already */
    bool wanted;                     /* ... and whether it is to run */
    struct channel_spec *own;        /* the spec meanwhile; freed with the channel */
};

/* What the gate knows of it. */
struct channel_reading {
    uint32_t index; /* its word in the memory by which readers are woken */
    bool told;      /* this gate, what lent says */
    bool behind;    /* it was to be told, and has no room: soon again */
    bool failed;    /* it could not be told, and the log says why */
    struct message_channel_lent lent;
};

#define PUBLISHERS_CUT_OFF 8

/* Programs that write into it: what is told of them, and who is to wait. */
struct channel_publishers {
    struct {
        uint32_t uid;
        monotonic until; /* ns = 0: nobody */
    } cut_off[PUBLISHERS_CUT_OFF];
    uint32_t next_cut_off; /* the place that is used next */
    monotonic told_since;  /* the second in which ... */
    uint32_t told, untold; /* ... so many lines were written, and so many were not */
    monotonic admitted_since;
    uint32_t admitted; /* likewise */
};

struct history;

struct channel {
    struct channel_host *host;
    struct channel_spec *spec; /* owned by the settings, or former.own */
    struct channel_former former;
    struct hold hold;
    struct stored stored;
    struct channel_life life;
    struct channel_lent lent;
    struct channel_hang hang;
    struct channel_ledger ledger;
    struct channel_silence silence;
    struct channel_takeover takeover;
    struct channel_recording recording;
    struct channel_durability durability;
    struct channel_discard discard;
    struct channel_reading reading;
    struct channel_publishers publishers;
    struct obituary_list obituaries;
    struct history *history; /* a copy of what outlives this process; NULL when there is none */
};

/* 0 or -ENOMEM. */
int channel_new(struct channel_host *host, struct channel_spec *spec, struct channel **ret);
void channel_free(struct channel *channel);

/* It is in another state: told in one line, of a level that fits; what is tried again and
 * again and fails for the same reason, ever more rarely. */
void channel_note_state(struct channel *channel, enum channel_state to, const char *cause);
/* It has run, or it is known why not: READY=1 no longer waits for it. */
void channel_note_reported(struct channel *channel);

/* The ring's numbers are the log's: where that goes on is known, and the ring goes on there. */
static inline bool channel_has_log_numbers(const struct channel *channel)
{
    return channel->recording.placed && !channel->recording.renumber;
}

#endif
