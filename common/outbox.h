/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* An outbox: how a program of this machine writes into a channel without UDP. For each publisher two sealed
 * memory files, and two descriptors to wake and be woken by.
 *
 *   the box      written by the publisher, read by the channel's worker, which believes nothing in it
 *     0            struct outbox_head
 *     4096         `capacity` bytes, a power of two, mapped twice, so that every record is contiguous
 *   the answer   written by the supervisor and the worker; the publisher has a descriptor of it that can't write
 *     0            struct outbox_answer
 *
 * Positions count bytes and only grow. Write order of one datagram's way, and what a death between two steps leaves:
 *   publisher   payload -> length and time -> committed (release)   before `committed`: nothing; behind it: the datagram
 *   worker      into the ring -> descriptor -> the page's outbox slot flips -> published -> taken
 *               before the flip: nothing was taken, the next worker takes it again
 *               behind the flip: the next worker publishes what the slot says, and takes nothing twice
 *               before `taken`: the publisher has less room until the next worker says so
 *
 *   the bell     a pair of connected stream sockets: the worker sends a byte, and sees the publisher's end by the
 *                hang-up. Its end is shut down for receiving: what a publisher sent could bring descriptors along, and
 *                whoever lets go of these may have to wait
 *   the call     an eventfd that the publisher writes and the worker never reads: it waits for edges (EPOLLET)
 *
 * Sleeping: the worker sets `asleep`, then looks once more at `committed`; the publisher stores `committed`, then looks
 * at `asleep`; between the two on either side is a full fence. The same with `wants_...` and `taken` or `durable`. */
/* clang-format on */
#ifndef HOLDFAST_COMMON_OUTBOX_H
#define HOLDFAST_COMMON_OUTBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/channel_spec.h"

#define OUTBOX_MAGIC       0x4846424f58000001ull
#define OUTBOX_HEAD_SIZE   4096u
#define OUTBOX_ANSWER_SIZE 4096u
#define OUTBOX_NEVER       UINT64_MAX
#define OUTBOX_FDS         4u /* box, answer, bell, call */

/* What the publisher says. Any of it may be nonsense at any time. */
struct outbox_head {
    _Alignas(64) _Atomic uint64_t committed; /* records before it are whole */
    /* Ring the bell when `taken` is there; OUTBOX_NEVER: don't. */
    _Alignas(64) _Atomic uint64_t wants_room;
    /* ... when so many datagrams are durable. */
    _Atomic uint64_t wants_durable;
};

enum outbox_state {
    OUTBOX_OPEN = 0,
    OUTBOX_CUT_OFF = 1, /* its publisher has broken the rules: nothing more is taken from it */
    OUTBOX_ENDED = 2,   /* the daemon lets go of it: what is behind `taken` stays the publisher's */
};

/* What the daemon says. */
struct outbox_answer {
    /* Written once, by the supervisor. */
    uint64_t magic;
    uint64_t id;       /* never given twice: a worker knows by it where it was */
    uint64_t capacity; /* bytes of records */
    uint32_t max_datagram;
    uint32_t records; /* the channel has a record section: something becomes durable */
    uint32_t uid, pid;
    char name[16]; /* of the program */
    char channel[CHANNEL_NAME_SIZE];
    int64_t since_ns;

    /* Everything before it is the channel's: the room is free. */
    _Alignas(64) _Atomic uint64_t taken;
    _Atomic uint64_t taken_count; /* datagrams before `taken`, or before the `taken` before that */
    _Alignas(64) _Atomic uint32_t asleep;  /* the worker is: call it after a commit */
    _Alignas(64) _Atomic uint64_t durable; /* so many of its datagrams are on the disk */
    /* When the worker has last found nothing to take, wall clock: what it finds later was committed
     * later. */
    _Atomic int64_t looked_ns;
    _Atomic uint32_t state; /* enum outbox_state */
};

/* In front of each datagram's bytes; both together are padded to OUTBOX_ALIGN. */
struct outbox_record {
    _Atomic uint32_t length;
    uint32_t reserved;
    _Atomic int64_t time_ns; /* wall clock, when it was committed */
};

#define OUTBOX_ALIGN 8u

static inline uint64_t outbox_record_size(uint32_t length)
{
    return sizeof(struct outbox_record) +
           (((uint64_t)length + OUTBOX_ALIGN - 1) & ~(uint64_t)(OUTBOX_ALIGN - 1));
}

/* Of records, for a configured size: the next power of two. */
uint64_t outbox_capacity(uint64_t outbox_size);

/* A box as either side has mapped it. */
struct outbox_map {
    struct outbox_head *head;
    struct outbox_answer *answer;
    uint8_t *records; /* capacity bytes, twice */
    uint64_t capacity;
};

enum outbox_side { OUTBOX_PUBLISHER, OUTBOX_WORKER };

/* Are these what they are said to be? -EBADMSG when not; or -errno. Unmapped afterwards unless 0.
 * The worker maps the box read-only, and the publisher the answer. */
int outbox_map(int box, int answer, enum outbox_side side, struct outbox_map *ret);
void outbox_unmap(struct outbox_map *map);

/* ---- the publisher ---- */

struct outbox_producer {
    struct outbox_map map;
    uint64_t committed;
    uint64_t room_end; /* up to where it may write, as it has last seen */
    uint32_t reserved; /* bytes of the reservation that is open, and */
    bool is_reserved;
    uint32_t called; /* `asleep` when the worker was called last */
};

/* A box that nothing was written to yet. */
void outbox_producer_open(struct outbox_producer *producer, const struct outbox_map *map);

/* Room for a datagram of at most `length` bytes. One at a time; another one takes its place.
 * -EAGAIN: there is none, and the bell will ring when there is; -EMSGSIZE: there never is. */
int outbox_reserve(struct outbox_producer *producer, uint32_t length, void **ret);
/* The reserved one, of `length` bytes or fewer than were reserved. *ret_call: the worker is to be
 * called. -EINVAL: nothing is reserved, or less. */
int outbox_commit(struct outbox_producer *producer, uint32_t length, int64_t time_ns,
                  bool *ret_call);
/* Is there what the bell was to ring for when a reservation of `length` bytes found no room? */
bool outbox_room_has_come(struct outbox_producer *producer, uint32_t length);
static inline void outbox_abort(struct outbox_producer *producer)
{
    producer->is_reserved = false;
}

/* ---- the worker ---- */

struct outbox_consumer {
    struct outbox_map map;
    uint64_t at;           /* what comes next */
    uint64_t committed;    /* as far as it has looked */
    uint64_t answered;     /* the wish for room that the bell was rung for last */
    int64_t not_before_ns; /* no datagram of it is older */
    uint32_t max_datagram;
};

struct outbox_taken {
    const uint8_t *data; /* in the box: its publisher may still be writing it */
    uint32_t length;
    int64_t time_ns; /* within what can be true */
};

/* At this position; now_ns: wall clock. */
void outbox_consumer_open(struct outbox_consumer *consumer, const struct outbox_map *map,
                          uint64_t at, uint32_t max_datagram);
/* What has come meanwhile: 1 = there is something, 0 = nothing, -EBADMSG with *ret_what. */
int outbox_look(struct outbox_consumer *consumer, const char **ret_what);
/* The next one of what was seen, and go behind it: 1, 0 or -EBADMSG as above. */
int outbox_take(struct outbox_consumer *consumer, int64_t now_ns, struct outbox_taken *ret,
                const char **ret_what);

/* Everything before `at`, `count` datagrams, is the channel's. Does the publisher wait for this
 * room? Then the bell is to be rung. */
bool outbox_release(struct outbox_consumer *consumer, uint64_t count);
/* So many of its datagrams are durable; likewise. */
bool outbox_say_durable(const struct outbox_consumer *consumer, uint64_t count);

#endif
