/* SPDX-License-Identifier: MIT */
/* Channels that were expected to receive, and don't. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_SILENCE_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_SILENCE_H

#include "supervisor/channel/channel.h"

/* Once a second, after the ledger was read: has it been silent for longer than `expect`? */
void channel_silence_look(struct channel *channel, monotonic now);

/* For how long, in nanoseconds; 0 when it is not, or nothing is expected. */
uint64_t channel_silence_of(const struct channel *channel, monotonic now);

#endif
