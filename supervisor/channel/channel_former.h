/* SPDX-License-Identifier: MIT */
/* What a channel has of a configuration before the present one: one that is gone from it, or whose
 * socket is another one now. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_FORMER_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_FORMER_H

#include "supervisor/channel/channel.h"

/* For a channel that the configuration doesn't have; what is held of it may be adopted with that.
 * NULL: no memory. The caller frees it. */
struct channel_spec *channel_former_spec(const char *name);

/* Everything is adopted: from here on the channel has the settings of what it holds, and a STOP
 * receives, records and seals what is left of it. 0, -ENOMEM, or -EALREADY: it is at that. */
int channel_former_begin(struct channel *channel);

/* It is to run: now, or when that is done. */
bool channel_former_is_wanted(const struct channel *channel);

/* An operator, or whoever restarts it, wants it to run: now, or when that is done. */
void channel_former_want(struct channel *channel);

/* It is stopped: nothing is left. Takes the settings that are to follow; true when it is to run
 * with them. */
bool channel_former_finish(struct channel *channel);

/* Of another configuration, and done with: nobody is to see it any more. */
bool channel_former_is_gone(const struct channel *channel);

#endif
