/* SPDX-License-Identifier: MIT */
/* What is left of a channel that stops, and whether one more worker is to deal with it. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_LEFTOVERS_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_LEFTOVERS_H

#include "supervisor/channel/channel.h"

/* So many workers get the chance in a row without having got on with it. */
#define CHANNEL_DRAINS_MAX 2

/* What is still to be written has so long; within the shutdown's deadline. */
#define CHANNEL_STOP_DEADLINE_NS (8 * NS_PER_S)

/* Something is left, in a ring that can be trusted or in the socket. */
bool channel_leftovers_can_be_drained(const struct channel *channel);

/* The last attempt was none, because no worker could be had: the next one may be made within so
 * many nanoseconds. 0: there is no time for that. */
uint64_t channel_leftovers_patience(const struct channel *channel);

/* The ring is lost, what the kernel has queued need not be: it gets another one, at a number that
 * the archive knows. */
bool channel_leftovers_need_a_ring(const struct channel *channel);

#endif
