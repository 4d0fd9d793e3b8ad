/* SPDX-License-Identifier: MIT */
/* What was committed becomes durable within `sync`, also where no worker is left to see to it. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_DURABILITY_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_DURABILITY_H

#include <stdbool.h>
#include <stdint.h>

#include "supervisor/channel/channel.h"

/* Behind a worker's death, and regularly: is it time, and nobody there to do it? */
void channel_durability_look(struct channel *channel, monotonic now);
/* SYNCED. */
void channel_durability_answer(struct channel *channel, const struct message_synced *synced);
/* The disk has refused part of this segment, which is nowhere but in memory: whoever lets go of it
 * has it copied. */
bool channel_durability_was_refused(const struct channel *channel, uint64_t segment_id);
/* ... or of one of those that it holds. */
bool channel_durability_any_refused(const struct channel *channel);
/* A new archive runs: whatever was asked of the one before is forgotten. */
void channel_durability_archive_back(struct channel *channel);

#endif
