/* SPDX-License-Identifier: MIT */
/* A channel's sockets: one bound for receiving, one connected per destination. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_HOLD_SOCKETS_H
#define HOLDFAST_SUPERVISOR_HOLD_HOLD_SOCKETS_H

#include "supervisor/hold/hold.h"

/* Open what is missing of rx and destinations. A destination that can't be reached is down, and no
 * failure. 0, or -errno with why set to what was attempted and what to do. */
int hold_sockets_open(struct hold *hold, const struct channel_spec *spec, char *why,
                      size_t why_size);

/* Those that are down, or whose interface has changed: can they be reached now? What was lent
 * already is lent as it then is. */
void hold_sockets_try_down(struct hold *hold, const struct channel_spec *spec);

/* Is the interface at which the group was joined still there? One that comes back is joined anew,
 * on the same socket. */
void hold_sockets_look_at_membership(struct hold *hold, const struct channel_spec *spec);
/* Leave and join again, on suspicion. */
void hold_sockets_renew_membership(struct hold *hold, const struct channel_spec *spec);

#endif
