/* SPDX-License-Identifier: MIT */
/* A receiver's membership in a multicast group. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_MEMBERSHIP_H
#define HOLDFAST_SUPERVISOR_HOLD_MEMBERSHIP_H

#include "supervisor/hold/hold.h"
#include "supervisor/hold/socket_attempt.h"

/* Join or leave the channel's group at this interface (0: the kernel chooses). 0 or -errno. */
int membership_change(struct attempt *attempt, const struct channel_spec *spec, unsigned interface,
                      bool join);
/* Remember where it was joined. */
void membership_note(struct membership *membership, const struct channel_spec *spec,
                     unsigned interface);

/* Is the interface at which the group was joined still there? One that comes back is joined anew,
 * on the same socket. */
void membership_look(struct hold *hold, const struct channel_spec *spec);
/* Leave and join again, on suspicion. */
void membership_renew(struct hold *hold, const struct channel_spec *spec);

#endif
