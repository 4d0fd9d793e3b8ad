/* SPDX-License-Identifier: MIT */
/* Which multicast groups this machine receives, and where. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_JOINED_GROUPS_H
#define HOLDFAST_SUPERVISOR_HOLD_JOINED_GROUPS_H

#include <stdbool.h>

#include "common/channel_spec.h"

/* Has anybody joined this group at the interface of this number? Also true where that can't be
 * told.
 */
bool joined_groups_have(const union socket_address *group, unsigned interface);

#endif
