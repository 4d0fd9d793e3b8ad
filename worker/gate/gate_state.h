/* SPDX-License-Identifier: MIT */
/* What the gate's main loop keeps in mind: connections, channels, and what is under way. Everything
 * here belongs to that one thread; only a gate_work is the pool's while it is there. */
#ifndef HOLDFAST_WORKER_GATE_STATE_H
#define HOLDFAST_WORKER_GATE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/channel_public.h"
#include "common/gate_counters.h"
#include "common/gate_histogram.h"
#include "common/gate_limits.h"
#include "common/message.h"
#include "common/monotonic.h"
#include "common/read_protocol.h"
#include "common/read_stream.h"
#include "common/read_wake.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_pool.h"

/* Beyond it, for root and the daemon's own user: to see who has taken all the others. */
#define GATE_CONNECTIONS_SPARE 16
#define GATE_PENALTIES         64   /* users; of more, those that were given last */
#define GATE_HOT               1024 /* log files that are remembered: gate_hot.h */
#define GATE_NO_UID            ((uid_t)-1)
#define GATE_SLOTS             (GATE_CONNECTIONS_MAX + GATE_CONNECTIONS_SPARE)
_Static_assert(GATE_SLOTS <= UINT16_MAX, "a slot has 16 bits in a position's turn");

struct gate;
struct gate_connection;
struct gate_range;

struct gate_channel {
    char name[CHANNEL_NAME_SIZE];
    char listen[SOCKET_ADDRESS_TEXT_SIZE];
    uint32_t wake_index;
    bool records;
    bool publishes;                /* programs may write into it, */
    uint32_t publishers;           /* those of this group; UINT32_MAX: whoever may connect */
    bool settled;                  /* the ring's numbers are the log's */
    uint64_t ring;                 /* 0 = it has none now */
    int memory;                    /* the ring's public memory; -1 = none, or it can't be used */
    struct channel_public_map map; /* of that; not mapped: there was no room for it yet */
    bool map_failed;               /* and that was told */
    struct gate_folder *folder;
    struct gate_connection *armed;              /* by next_armed */
    uint32_t armed_for[READ_FOR_PUBLISHED + 1]; /* how many of them for what */
    struct gate_channel *next_watched;          /* those with armed connections */
    struct gate_channel **link_watched;         /* NULL = it isn't among them */
};

/* What an error means to whoever is told of it. A table of these ends with error 0. */
struct gate_reason {
    int error;
    const char *text;
};

/* Something that threads of the pool do for a connection. */
struct gate_work {
    struct gate_job job; /* first */
    struct gate_pool *pool;
    uint32_t slot;
    uint64_t number;  /* of the connection: another one may be in its slot by now */
    uint32_t request; /* to be answered */
    monotonic since;  /* it waits for a thread, and for what that does */
    bool abandoned;   /* nobody waits for it any more: it was refused, request_timeout */
    int result;       /* what run() came to: below 0 is -errno; */
    /* ... for which the request is refused. NULL: finish() deals with it. */
    const struct gate_reason *reasons;
    /* In the main loop, when it was done. connection NULL: it has ended, or was refused. Whatever
     * the work has of descriptors and memory, but itself and `folder`, is to be let go of here. */
    void (*finish)(struct gate *gate, struct gate_connection *connection, struct gate_work *work);
    struct gate_folder *folder; /* a reference; may be NULL */
};

/* An answer that did not fit into the socket. */
struct gate_waiting {
    enum read_type type;
    uint32_t request;
    int fds[READ_FDS_MAX];
    uint32_t fd_count;
    uint32_t size;
    size_t sent; /* TCP: so many bytes of header and payload are on their way */
    _Alignas(8) uint8_t payload[];
};

/* A request that came while another one was being answered, or channels were still to be lent. */
struct gate_request {
    struct gate_request *next;
    unsigned type;
    uint32_t number;
    bool is_late; /* it came when the end had begun */
    monotonic since;
    _Alignas(8) uint8_t payload[];
};

/* What one connection has asked for and got lately: in this window, and in the one before. */
struct gate_rate {
    monotonic begun;
    uint64_t requests[2], bytes[2];
};

/* A position that a connection has, or is about to get: nobody else does then. */
struct gate_claim {
    struct gate_connection *owner; /* NULL = nothing is claimed */
    struct gate_claim *next, **link;
    char channel[CHANNEL_NAME_SIZE];
    char name[READ_POSITION_SIZE];
    uint32_t uid; /* whose file it is */
    bool firm;    /* its owner may have it: till then it keeps nobody else away */
    bool stale;   /* what its owner reads of the file has been changed meanwhile */
};

/* A log file's bytes, or a range's, on their way into a pipe. In the hands of one of: a thread
 * (connection->work), and epoll. */
struct gate_transfer {
    enum read_how how;
    uint32_t request;
    int file, pipe;           /* its writing end */
    int between[2];           /* SPLICE: what a look has found sound goes on from here */
    size_t held;              /* bytes in there, */
    const uint8_t *bytes;     /* or here */
    uint64_t begin, at, end;  /* of the file; the next one */
    struct gate_range *range; /* instead of a file; `end` is not known before it is reached */
    bool is_framed;           /* `pipe` is the TCP socket, and the bytes go there in chunks: */
    struct read_frame frame;  /* the present one's head, */
    size_t frame_left;        /* so much of which is not sent yet; then `held` bytes follow */
    uint8_t *memory;          /* READ_COPY, framed: what is held lies here */
    bool is_unannounced;      /* its reader has yet to be sent the pipe */
    bool is_open;             /* the file was being written when it was found */
    monotonic since;          /* it has waited for room in the pipe, which epoll tells */
    struct gate_connection *owner;
    struct gate_transfer *next, **link; /* of those that wait, in that order */
    struct gate_folder *folder;         /* a reference */
};

struct gate_connection {
    uint64_t number;                         /* from 1 */
    struct gate_connection *previous, *next; /* in that order */
    int fd;
    uint32_t slot;
    uint32_t events;            /* what epoll is asked for */
    int send_buffer;            /* as the kernel counts */
    uid_t uid;                  /* GATE_NO_UID: it came over TCP, with pid 0 */
    uint64_t peer;              /* whose limits are its own: gate_peer.h */
    struct read_stream *stream; /* TCP: the packet that is just coming; else NULL */
    pid_t pid;
    char program[16];
    int64_t since_ns;
    bool ended;    /* to be forgotten at the end of this turn: nothing is done with it any more */
    bool closing;  /* it has ended, and a thread closes its socket; */
    bool lingers;  /* ... or nobody does yet: it has not received all that it was lent */
    bool closed;   /* that is done, and it waits for the answer to `turn` only */
    bool expelled; /* because of what it has sent; what it has sent besides is of no interest */
    bool held;     /* not heard yet: gate_penalty.h */

    /* The request that is being served: */
    monotonic since; /* it came */
    enum gate_mode mode_of;
    bool is_measured;     /* until it is answered */
    bool is_late;         /* gate_request */
    monotonic active;     /* when something last came or went; where there is an idle_timeout */
    uint64_t paced_ns;    /* requests_per_second: till then its requests are paid for */
    uint64_t made, bytes; /* requests and bytes of files, since it began */
    struct gate_rate rate;
    uint32_t under_way; /* descriptors that were sent since all of it was seen to be read */

    /* One request is answered after the other. */
    bool busy;              /* one is at the pool, or at the supervisor */
    struct gate_work *work; /* the pool's */
    struct gate_transfer *transfer;
    uint64_t turn;         /* the supervisor's, also behind its end; 0 = none; */
    bool turn_publishes;   /* of a PUBLISH, else a POSITION_SAVE */
    uint32_t turn_request; /* to be answered, a POSITION_SAVE with this: */
    struct read_position turn_answer;
    struct gate_waiting *waiting;
    uint8_t unlooked; /* answers since all of them were seen to be read */
    bool
        lending_failed; /* the last answer's descriptor could not be sent: it was refused instead */
    bool lends_local;   /* what it is lent can be closed without waiting for a disk */
    struct gate_request *requests, **requests_end;
    unsigned request_count;

    bool attached; /* it was, once; channel is NULL again when that is gone */
    struct gate_channel *channel;
    uint32_t mode;
    bool has_told;
    uint64_t next_seq; /* as it told last */

    bool armed;
    struct read_arm arm;
    struct gate_connection *next_armed, **link_armed;
    bool woken_due;        /* WOKEN did not fit into the socket */
    uint64_t told_retired; /* this ring's end was reason for WOKEN once */

    struct gate_claim claim;  /* its own */
    struct gate_claim taking; /* being asked for, or being forgotten */

    /* The file that was lent last: by name and inode number, for holding it open would keep its
     * space from being free. */
    struct gate_folder *lent_folder; /* a reference; NULL = nothing was lent */
    uint64_t lent_id, lent_size;
    char lent_name[SEGMENT_NAME_SIZE];
};

/* What the supervisor has not been sent yet. */
struct gate_saving {
    struct gate_saving *next;
    enum message_type type;
    union {
        struct message_position_save save; /* POSITION_SAVE */
        struct message_publish publish;    /* PUBLISH */
    };
};

struct gate_user {
    uint64_t peer;
    uint32_t connections;
    uint32_t under_way; /* of all of them */
    monotonic looked;   /* whether that is still so */
    uint64_t turns[3];  /* gate_pool_submit(): of the pool, the wide one and the copier */
};

/* channel "": none. */
struct gate_hot_entry {
    char channel[CHANNEL_NAME_SIZE];
    uint64_t device;
    struct read_object_lent lent;
};

struct gate_penalty {
    uint64_t peer;
    monotonic until;
};

struct gate_reporting {
    int timer;
    bool due;   /* something may have changed */
    bool armed; /* the timer is */
    bool asked; /* GATE_ASK is to be answered */
    struct message_gate_report last;
    bool tallying; /* a thread is looking at what was lent */
    uint64_t lent_deleted_bytes;
};

struct gate {
    uint64_t generation;
    char log_dir[sizeof((struct message_assign *)0)->log_dir];
    int epoll, supervisor, listening, bell;
    int tcp; /* the socket that readers connect to over TCP; -1: there is none */
    uint32_t supervisor_events;
    struct gate_limits limits;
    bool limited;          /* they were told */
    bool draining;         /* STOP: what was accepted is answered, till then: */
    monotonic drain_until; /* ... */
    bool leaving;          /* that is done, or the supervisor is gone */
    bool failed;
    bool all_lent; /* what isn't here does not exist */
    struct read_wake_word *words;
    struct gate_pool pool;
    struct gate_pool wide; /* for what looks into many folders: each may be on a dead disk */
    struct gate_pool
        copier; /* for what sends files: it may take long, and keeps nothing else waiting */
    uint32_t transfer_count;
    uint32_t range_count; /* of these, and of what is to become one: gate_range.h */
    struct gate_transfer *transfers, **transfers_end; /* that wait for room */
    bool keeps_away;         /* the kernel takes no descriptors from readers: gate_closing.c */
    struct gate_pool closer; /* where it does: sockets that may hold up who closes them */
    uint32_t turned_away;    /* of these, those that never became a connection */
    unsigned positions_busy; /* the pool's: the place of what reads positions */

    struct gate_channel **channels; /* by name */
    size_t channel_count, channel_room;
    struct gate_channel *watched;

    struct gate_connection *connections[GATE_SLOTS];
    uint32_t free_slots[GATE_SLOTS];
    uint32_t free_count;
    struct gate_connection *first, *last;
    uint32_t connection_count;
    uint64_t descriptors;      /* that this process may have */
    uint64_t descriptors_each; /* that a connection may cost */
    struct gate_user users[GATE_SLOTS];
    uint32_t user_count;
    struct gate_penalty penalties[GATE_PENALTIES];
    uint32_t held_count; /* connections that are held, */
    monotonic held_look; /* and when to look whether they still must be */
    uint64_t next_number;
    bool accepting, any_ended;
    uint32_t lingering; /* connections that linger: gate_connection.c */

    monotonic idle_look, request_look; /* gate_timeouts.h; ns 0: there is nothing to look for */

    struct gate_hot_entry hot[GATE_HOT];
    struct gate_claim *claims;
    struct gate_saving *savings, **savings_end;
    uint64_t last_turn;

    uint64_t counts[GATE_COUNTER_COUNT]; /* those that only grow, and `waiting` */
    uint64_t bytes[GATE_MODE_COUNT];
    struct gate_histogram latency[GATE_MODE_COUNT], queue_wait;
    struct gate_reporting reporting;
    struct read_packet packet; /* as received */
    struct message message;    /* likewise */
};

/* In such an event: it is about the connection's transfer. */
#define GATE_EVENT_TRANSFER (UINT64_C(1) << 31)

/* What an epoll event is about: one of these, or a connection's slot behind them, with the lower
 * half of its number above. */
enum gate_source {
    GATE_SOURCE_SUPERVISOR,
    GATE_SOURCE_LISTENING,
    GATE_SOURCE_TCP,
    GATE_SOURCE_BELL,
    GATE_SOURCE_POOL,
    GATE_SOURCE_WIDE,
    GATE_SOURCE_CLOSER,
    GATE_SOURCE_COPIER,
    GATE_SOURCE_TIMER,
    GATE_SOURCE_CONNECTIONS,
};

/* Why what comes now is not served. */
#define GATE_STOPS "the daemon stops"

static inline void gate_count(struct gate *gate, enum gate_counter counter)
{
    gate->counts[counter]++;
    gate->reporting.due = true;
}

#endif
