/* SPDX-License-Identifier: MIT */
/* The thread that waits for disks, and how the recorder puts it to work. */
#ifndef HOLDFAST_WORKER_CHANNEL_SYNCER_H
#define HOLDFAST_WORKER_CHANNEL_SYNCER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/channel_page.h"
#include "worker/channel/segment.h"
#include "worker/channel/wakeup.h"

struct channel_state;

#define SYNCER_BROKEN_MAX 8

/* A segment that the recorder has left, and the disk did not take. */
struct syncer_broken {
    uint64_t id;
    uint64_t length; /* committed */
    int error;
};

/* What the recorder and the syncer share. */
struct syncer {
    struct wakeup wakeup;   /* waits for the recorder's cursor */
    _Atomic uint64_t ahead; /* bytes that are populated ahead of the recorder */
    _Atomic uint32_t populate_asked;
    bool makes_durable;      /* `sync` or `sync_every` is not 0 */
    bool doubts_earlier;     /* the syncer's: the predecessor left a segment and did not live to
                                make the rest of it durable */
    pthread_mutex_t lock;    /* guards what follows; never held while anything touches a file */
    struct segment *segment; /* what the recorder writes into; NULL when there is none */
    /* What it wrote into before and is not durable yet, oldest first, chained by `behind`. */
    struct segment *left, **left_end;
    uint32_t left_count;
    /* Of these, those that could not be made durable: for the recorder to report. */
    struct syncer_broken broken[SYNCER_BROKEN_MAX];
    _Atomic uint32_t broken_count;
};

/* Before recorder_open(). 0 or -errno. */
int syncer_open(struct channel_state *channel);

/* The thread's whole life; its argument is the struct channel_state. */
void *syncer_main(void *channel);

/* From the recorder: it writes into this segment now, or into none (NULL). It leaves the one before
 * with `end` bytes committed, which become durable before anything in the new one is said to be. */
void syncer_follow(struct syncer *syncer, struct segment *segment, uint64_t end);

/* From the recorder: the next one that the disk did not take. false: there is none. */
bool syncer_take_broken(struct syncer *syncer, struct syncer_broken *ret);

/* From the recorder, before it begins a segment: what was durable in a file that had this inode
 * number before says nothing about the new one. */
void syncer_forget(struct channel_page *page, uint64_t segment_id);

/* From the recorder: datagrams < next_seq are committed. */
static inline void syncer_committed(struct syncer *syncer, uint64_t next_seq)
{
    wakeup_reached(&syncer->wakeup, next_seq);
}

/* From the recorder: it has come to write_offset. Asks for pages when half of what was populated is
 * used up. */
static inline void syncer_ask_populate(struct syncer *syncer, const struct segment *segment,
                                       uint64_t write_offset)
{
    uint64_t populated = atomic_load_explicit(&segment->populated, memory_order_relaxed);
    uint64_t ahead = atomic_load_explicit(&syncer->ahead, memory_order_relaxed);
    if (write_offset + ahead / 2 > populated && populated < segment->grant.size &&
        !atomic_exchange_explicit(&syncer->populate_asked, 1, memory_order_relaxed))
        wakeup_now(&syncer->wakeup);
}

#endif
