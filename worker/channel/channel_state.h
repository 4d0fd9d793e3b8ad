/* SPDX-License-Identifier: MIT */
/* One channel's worker: what its threads share. Each thread's own state is in its own file. */
#ifndef HOLDFAST_WORKER_CHANNEL_CHANNEL_STATE_H
#define HOLDFAST_WORKER_CHANNEL_CHANNEL_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/monotonic.h"
#include "common/ring.h"
#include "worker/channel/wakeup.h"
#include "worker/inherit.h"
#include "worker/step.h"

struct segment;
struct relay;
struct recorder;
struct decimator;

enum stop_phase { /* only ever grows */
                  STOP_NOT = 0,
                  STOP_RECEIVER = 1, /* the receiver drains its socket if asked to, and ends */
                  STOP_READERS = 2, /* recorder and decimator work off what is published, and end */
};

/* How far a consumer may go in one step, after its predecessors died of what they read (poison
 * datagrams). */
struct caution {
    bool active;
    uint64_t until; /* one datagram at a time up to here */
};

struct channel_state {
    struct inheritance *inheritance;
    const struct channel_spec *spec;
    struct ring ring;
    struct ring_writer writer; /* the receiver's, and before it starts the takeover's */
    struct caution caution[CONSUMER_COUNT];
    uint32_t recovered; /* datagrams saved from the predecessor's batch */

    _Atomic uint32_t stop_phase;
    _Atomic uint32_t stop_drains; /* the receiver empties the kernel's queue before it ends */
    _Atomic uint32_t stop_seals;
    _Atomic uint32_t receiver_done, recorder_done, decimator_done;
    /* Datagrams before it were offered to the relays. Readers go no further: what kills the relay
     * must not have been recorded as sound, or decimated, by the time that is known. */
    _Atomic uint64_t relay_cursor;
    _Atomic uint64_t
        recorder_cursor; /* first datagram not yet committed; UINT64_MAX without a recorder */
    _Atomic uint64_t
        decimator_cursor; /* first datagram not yet decided; UINT64_MAX without a decimator */
    struct wakeup recorder_wakeup;
    struct wakeup decimator_wakeup;
    struct wakeup space_wakeup; /* on_full = "wait": the receiver waits for the recorder */

    int control_event; /* eventfd: a thread has something for the control thread */
    struct relay *relay;
    struct recorder *recorder;
    struct decimator *decimator;
    pthread_t receiver_thread, recorder_thread, decimator_thread, syncer_thread;
};

/* channel_worker.c: the whole life of one generation; returns the exit status. */
int channel_worker_run(struct inheritance *inheritance);

/* takeover.c: attach to the ring, judge it, finish what the predecessor left. 0; -EBADMSG with
 * *ret_what when the ring can't be trusted; -errno. */
int takeover_attach(struct channel_state *channel, const char **ret_what);

/* receiver.c */
void *receiver_main(void *channel);
/* relay.c */
int relay_open(struct channel_state *channel);
/* Offer every published datagram that was not offered yet to every full-rate destination. */
void relay_run(struct channel_state *channel);
/* decimator.c */
int decimator_open(struct channel_state *channel);
void *decimator_main(void *channel);
/* control.c: the main thread. Returns the exit status. */
int control_run(struct channel_state *channel);
/* From any other thread: there is something for the control thread to look at. */
void control_wake(struct channel_state *channel);

/* First of all in every thread but the control thread: its last words, its id for the supervisor,
 * its name for top(1) and gdb(1). */
void thread_begin(struct channel_state *channel, enum channel_thread thread);

/* Signs of life. busy: I am working. parked: I am about to wait in the kernel with nothing to do.
 * disk: I am about to do what may take as long as a disk does. */
void beat_busy(struct channel_state *channel, enum channel_thread thread);
void beat_parked(struct channel_state *channel, enum channel_thread thread);
void beat_disk(struct channel_state *channel, enum channel_thread thread);
void beat_work(struct channel_state *channel, enum channel_thread thread, uint64_t first,
               uint64_t end);

/* For threads that work in bulk: they never take the processor from a thread that is at work, the
 * receiver above all. */
void schedule_behind(void);

static inline uint32_t stop_phase_of(struct channel_state *channel)
{
    return atomic_load_explicit(&channel->stop_phase, memory_order_acquire);
}

/* Datagrams before it are the readers' to take. */
static inline uint64_t relay_cursor_of(struct channel_state *channel)
{
    return atomic_load_explicit(&channel->relay_cursor, memory_order_acquire);
}

/* The end of the step that a consumer may take from `from` to at most `to`. */
static inline uint64_t caution_limit(const struct caution *caution, uint64_t from, uint64_t to)
{
    return caution->active && from < caution->until && to > from + 1 ? from + 1 : to;
}

#endif
