/* SPDX-License-Identifier: MIT */
/* A channel's sockets: one bound for receiving, one connected per destination. What becomes of them
 * later: membership.h, hold_destinations.h. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_HOLD_SOCKETS_H
#define HOLDFAST_SUPERVISOR_HOLD_HOLD_SOCKETS_H

#include "supervisor/hold/hold.h"

/* Open what is missing of rx and destinations. A destination that can't be reached is down, and no
 * failure. 0, or -errno with why set to what was attempted and what to do. */
int hold_sockets_open(struct hold *hold, const struct channel_spec *spec, char *why,
                      size_t why_size);

/* The ring has another shape now: runs come only where it has room for them. */
void hold_sockets_follow_shape(struct hold *hold, const struct channel_spec *spec);

/* Take what the kernel has queued, for nobody, before the socket is closed without a worker to do
 * it: how many datagrams there were. Never waits; ends also while more come in. */
uint64_t hold_sockets_discard(struct hold *hold);

#endif
