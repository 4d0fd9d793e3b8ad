/* SPDX-License-Identifier: MIT */
/* How a channel's worker wakes readers, through the gate: common/read_wake.h. What is recorded
 * wakes them when it is committed; a channel that does not record has a thread for it. */
#ifndef HOLDFAST_WORKER_CHANNEL_READING_H
#define HOLDFAST_WORKER_CHANNEL_READING_H

#include <stdatomic.h>

#include "common/read_wake.h"
#include "worker/channel/channel_state.h"

/* Before there is another thread. Whatever the worker before was about to say is said. A worker
 * that can't do it goes on without. */
void reading_open(struct channel_state *channel);

/* The recorder's, after each commit. */
static inline void reading_committed(struct channel_state *channel)
{
    read_wake_ring(channel->reading.word, channel->reading.bell);
}

/* The control thread's, now and then: whoever waits for the newest datagram is told also while a
 * disk holds the recorder up. */
void reading_look(struct channel_state *channel);

/* The thread of a channel that does not record. */
void *reading_main(void *argument);
void reading_call(struct channel_state *channel);

/* The receiver's, when it has published: where nobody sleeps, a fence and a load. */
static inline void reading_published(struct channel_state *channel)
{
    struct read_wake_word *word = channel->reading.published;
    if (!word)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&word->armed, memory_order_relaxed) != 0 &&
        atomic_load_explicit(&channel->reading.called, memory_order_relaxed) == 0)
        reading_call(channel);
}

#endif
