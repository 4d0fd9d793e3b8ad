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

/* Was rx made for another interface or source than these? What it has joined can't be taken back
 * without knowing it. */
bool hold_sockets_have_other_settings(const struct hold *hold, const struct channel_spec *spec);

/* Nothing more comes in; what the kernel has queued stays. */
void hold_sockets_mute(const struct hold *hold);
bool hold_sockets_is_muted(int rx);
/* rx is of settings that are gone: it is muted, and stays as it is. */
void hold_sockets_keep(struct hold *hold);

/* Take some of what the kernel has queued, for nobody, before the socket is closed without a worker
 * to do it: how many datagrams these were. Never waits; *ret_empty: nothing is left. */
uint64_t hold_sockets_discard(const struct hold *hold, bool *ret_empty);

#endif
