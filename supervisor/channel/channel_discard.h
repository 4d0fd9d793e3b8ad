/* SPDX-License-Identifier: MIT */
/* The end of a channel's receiving socket when nobody is left to receive from it. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_DISCARD_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_DISCARD_H

#include "supervisor/channel/channel.h"

/* Count what the kernel has queued: some of it at once, the rest in turns. Nothing more must come
 * in. true: nothing is left, the socket may be closed. false: done(channel) is called when it is.
 */
bool channel_discard_begin(struct channel *channel, void (*done)(struct channel *channel));
bool channel_discard_is_under_way(const struct channel *channel);
/* Without an answer. */
void channel_discard_cancel(struct channel *channel);

#endif
