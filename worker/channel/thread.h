/* SPDX-License-Identifier: MIT */
/* What every thread of a channel's worker does when it begins. */
#ifndef HOLDFAST_WORKER_CHANNEL_THREAD_H
#define HOLDFAST_WORKER_CHANNEL_THREAD_H

#include "common/channel_page.h"

struct channel_state;

/* First of all in every thread but the control thread: its last words, its id for the supervisor,
 * its name for top(1) and gdb(1). */
void thread_begin(struct channel_state *channel, enum channel_thread thread);

/* For threads that work in bulk: they never take the processor from a thread that is at work, the
 * receiver above all. */
void thread_schedule_behind(void);

#endif
