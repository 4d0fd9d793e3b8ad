/* SPDX-License-Identifier: MIT */
/* How a channel's worker wakes readers, through the gate: common/read_wake.h. The recorder wakes
 * who reads the log, when it has committed; the receiver wakes who reads the ring, but not too
 * often. What it passes over is told by the next commit, or where nothing is recorded by a thread.
 */
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
    read_wake_ring(channel->reading.word, channel->reading.bell, READ_WAKE_ANY);
}

/* The control thread's, now and then: whoever waits for the newest datagram is told also while a
 * disk holds the recorder up. */
void reading_look(struct channel_state *channel);

/* The thread of a channel that does not record. */
void *reading_main(void *argument);
void reading_wake(struct channel_state *channel);

/* The receiver's, when it has published: where nobody sleeps, a fence and a load. */
static inline void reading_published(struct channel_state *channel)
{
    const struct read_wake_word *word = channel->reading.word;
    if (!word)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&word->armed, memory_order_relaxed) & READ_WAKE_PUBLISHED)
        reading_wake(channel);
}

#endif
