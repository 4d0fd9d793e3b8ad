/* SPDX-License-Identifier: MIT */
/* A channel's rings, one after the other. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RING_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RING_H

#include "supervisor/channel/channel.h"

/* A ring that was refused, or whose numbers the log has overtaken, makes room for a fresh one. The
 * latter only after an orderly end: a successor must first save what a dead worker had in flight.
 */
void channel_ring_give_up(struct channel *channel);

/* The worker says that it can't trust the ring, and why. */
void channel_ring_refused(struct channel *channel, const char *reason);

/* It was made with other settings, and little enough is left in it for a worker to finish at once.
 */
bool channel_ring_can_be_reshaped(const struct channel *channel);
/* The same: time for a restart. What it has to have first is asked for. */
bool channel_ring_wants_shape(struct channel *channel);

/* Make a ring if there is none. 0, or -errno with why. */
int channel_ring_make(struct channel *channel, char *why, size_t why_size);

#endif
