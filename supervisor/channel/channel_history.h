/* SPDX-License-Identifier: MIT */
/* What a channel has been through: counters of rings that are gone, restarts, deaths. It outlives
 * this supervisor like everything else of the hold, in a memory of its own that no worker is lent.
 */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_HISTORY_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_HISTORY_H

#include "supervisor/channel/channel.h"

/* Go on with what a supervisor before this one has left, or begin one. Once, before anything
 * starts. Without memory for it the channel works all the same, and its history ends with this
 * process. */
void channel_history_open(struct channel *channel);

/* Something of it has changed. */
void channel_history_save(struct channel *channel);

#endif
