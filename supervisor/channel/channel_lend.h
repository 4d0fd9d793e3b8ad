/* SPDX-License-Identifier: MIT */
/* Lending a channel's hold to a worker. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_LEND_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_LEND_H

#include "supervisor/channel/channel.h"

/* Hand the hold to a worker, whose messages and end go to this owner. 0; -errno with why: there is
 * no worker, or (channel->lent.worker is set) its end will follow. */
int channel_lend(struct channel *channel, const struct child_owner *owner, char *why,
                 size_t why_size);

/* Its worker is to let go of it when nothing is open for it any more; with its segments complete,
 * or to be continued. */
void channel_lend_ask_back(const struct channel *channel, bool seal);

/* Its worker could not be executed: nobody has had the hold, and nobody has died. */
void channel_lend_take_back(struct channel *channel);

#endif
