/* SPDX-License-Identifier: MIT */
/* Whether a channel's work moves on, and what waits while it doesn't: what the restart policy is
 * asked with. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_PROGRESS_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_PROGRESS_H

#include "supervisor/channel/channel.h"

/* A worker is about to get the hold: from here on it is judged. */
void channel_progress_mark(struct channel *channel);

/* The worker is gone: when does the next one start? */
struct restart_decision channel_progress_decide(struct channel *channel);

/* It has ended in that decision for good: why, and what is to be done. Good until the next call. */
const char *channel_progress_given_up(const struct channel *channel, const char *cause);

/* Since it was marked: has a worker received, relayed, recorded or decimated anything? */
bool channel_progress_moved(const struct channel *channel);

/* Until the kernel drops what queues for this channel, in nanoseconds; RESTART_NO_STALL while
 * nothing comes in. */
uint64_t channel_progress_stall_budget(const struct channel *channel);

/* None could be started to drain what is left: nanoseconds until the next attempt, which
 * is to be made within most_ns where the share of the processors allows it. */
uint64_t channel_progress_drain_delay(struct channel *channel, uint64_t most_ns);

/* So long a worker that starts now has to get READY, in nanoseconds. */
uint64_t channel_progress_ready_deadline(const struct channel *channel);

/* It waits for its next start: has half of the room in the kernel's buffer been used up? */
bool channel_progress_presses(const struct channel *channel);

/* How many datagrams the kernel is expected to drop before the next start; 0 when it waits for
 * none. */
uint64_t channel_progress_expected_drops(const struct channel *channel, monotonic now);

#endif
