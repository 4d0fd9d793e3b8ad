/* SPDX-License-Identifier: MIT */
/* Taking over what a supervisor before this one held. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_HOLD_ADOPT_H
#define HOLDFAST_SUPERVISOR_HOLD_HOLD_ADOPT_H

#include "supervisor/hold/hold.h"

/* Take a descriptor under the name of its place. Checks that it is what its name says (a socket
 * bound or connected as the spec wants, a sealed memfd of the right size, a regular file). 0: it is
 * the hold's now. -EINVAL: it is not wanted; the caller closes it. Grants stay empty: who restores
 * the channel finds out about segments. */
int hold_adopt(struct hold *hold, const struct channel_spec *spec, const char *name, int fd);

/* Is the adopted rx what the settings say now: its address, interface and source? */
bool hold_adopted_socket_suits(const struct hold *hold, const struct channel_spec *spec);

#endif
