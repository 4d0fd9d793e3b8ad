/* SPDX-License-Identifier: MIT */
/* Signs of life, in the channel page, where the supervisor looks at them: a thread that is busy and
 * doesn't beat has hung. */
#ifndef HOLDFAST_WORKER_CHANNEL_BEAT_H
#define HOLDFAST_WORKER_CHANNEL_BEAT_H

#include <stdint.h>

#include "common/channel_page.h"

struct channel_state;

/* Before the first thread starts: what the predecessor's threads left says nothing about ours. */
void beat_reset(struct channel_page *page);

/* The calling thread is this one; the supervisor gets its id. And: it is none any more. */
void beat_begin(struct channel_state *channel, enum channel_thread thread);
void beat_end(struct channel_state *channel, enum channel_thread thread);

/* busy: I am working. parked: I am about to wait in the kernel with nothing to do. disk: I am about
 * to do what may take as long as a disk does. */
void beat_busy(struct channel_state *channel, enum channel_thread thread);
void beat_parked(struct channel_state *channel, enum channel_thread thread);
void beat_disk(struct channel_state *channel, enum channel_thread thread);

/* I am at work on the datagrams [first, end); 0, 0 = on none. */
void beat_work(struct channel_state *channel, enum channel_thread thread, uint64_t first,
               uint64_t end);

/* The control thread's: beat for those who are parked. */
void beat_for_parked(struct channel_state *channel);

#endif
