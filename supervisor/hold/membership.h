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

/* The same of a socket that was adopted: it has joined already, as a rule. Another interface, or
 * none, means that nobody was receiving for a while. */
void membership_adopt(struct hold *hold, const struct channel_spec *spec);

/* Is the interface at which the group was joined still there, and up? One that comes back is joined
 * anew, on the same socket. true: that can't be, because a link-local address is bound to the one
 * that is gone; a new socket is needed. */
bool membership_look(struct hold *hold, const struct channel_spec *spec);
/* The kernel says that this interface is gone; 0: it may have said so of any. */
void membership_interface_gone(struct membership *membership, unsigned index);
/* Leave and join again, on suspicion. */
void membership_renew(struct hold *hold, const struct channel_spec *spec);

#endif
