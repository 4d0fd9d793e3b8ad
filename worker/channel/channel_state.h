/* SPDX-License-Identifier: MIT */
/* One channel's worker: what its threads share. Each thread's own state is in its own file. */
#ifndef HOLDFAST_WORKER_CHANNEL_CHANNEL_STATE_H
#define HOLDFAST_WORKER_CHANNEL_CHANNEL_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/monotonic.h"
#include "common/ring.h"
#include "worker/channel/attention.h"
#include "worker/channel/caution.h"
#include "worker/channel/wakeup.h"
#include "worker/inherit.h"

struct read_wake_word;
struct relay;
struct recorder;
struct recorder_mailbox;
struct syncer;
struct decimator;
struct intake;

/* Only ever grows. */
enum stop_phase {
    STOP_NOT = 0,
    STOP_RECEIVER = 1, /* the receiver drains its socket if asked to, and ends */
    STOP_READERS = 2,  /* recorder and decimator work off what was relayed, and end */
};

enum receiver_state {
    RECEIVER_RUNS = 0,
    RECEIVER_ENDED = 1,         /* as it was told to */
    RECEIVER_SOCKET_BROKEN = 2, /* by itself: the next generation gets a new socket */
};

/* How readers are woken: reading.h. */
struct channel_reading {
    struct read_wake_word *word; /* NULL: nobody reads */
    int bell;
    bool has_thread;
    monotonic rung_until;    /* the receiver's: one pause for each time that it rang */
    uint64_t looked_at;      /* the control thread's: what was published at its last look */
    _Atomic uint32_t called; /* futex word of the thread: it is to look, or is about to */
};

struct channel_state {
    struct inheritance *inheritance;
    const struct channel_spec *spec;
    struct ring ring;
    struct ring_writer writer; /* the receiver's, and before it starts the takeover's */
    struct caution caution[CONSUMER_COUNT];
    uint32_t recovered;                        /* datagrams saved from the predecessor's batch */
    uint32_t places[CHANNEL_DESTINATIONS_MAX]; /* of the spec's destinations in the channel page */

    _Atomic uint32_t stop_phase;
    _Atomic uint32_t stop_drains; /* the receiver empties the kernel's queue before it ends */
    _Atomic uint32_t stop_seals;
    _Atomic uint32_t receiver_state; /* enum receiver_state */
    _Atomic uint32_t recorder_done, decimator_done;
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

    struct channel_reading reading;
    struct attention attention; /* the control thread's */
    struct relay *relay;
    struct recorder *recorder;
    struct recorder_mailbox *mailbox; /* of the recorder; NULL when nothing is recorded */
    struct syncer *syncer;            /* the recorder's helper */
    struct decimator *decimator;
    struct intake *intake; /* NULL: datagrams come from a socket */
    pthread_t receiver_thread, recorder_thread, decimator_thread, syncer_thread, reading_thread;
};

/* Before there is a ring and any other thread. `inheritance` must outlive it. 0 or -errno. */
int channel_state_open(struct channel_state *channel, struct inheritance *inheritance);

static inline enum stop_phase channel_state_stop_phase(struct channel_state *channel)
{
    return (enum stop_phase)atomic_load_explicit(&channel->stop_phase, memory_order_acquire);
}

/* Datagrams before it are the readers' to take. */
static inline uint64_t channel_state_relay_cursor(struct channel_state *channel)
{
    return atomic_load_explicit(&channel->relay_cursor, memory_order_acquire);
}

#endif
