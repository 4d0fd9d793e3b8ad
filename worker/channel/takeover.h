/* SPDX-License-Identifier: MIT */
/* Taking over a channel from the worker before. */
#ifndef HOLDFAST_WORKER_CHANNEL_TAKEOVER_H
#define HOLDFAST_WORKER_CHANNEL_TAKEOVER_H

struct channel_state;

/* Attach to the ring, judge it, finish what the predecessor left. 0; -EBADMSG with *ret_what when
 * the ring can't be trusted; -errno. */
int takeover_attach(struct channel_state *channel, const char **ret_what);

#endif
