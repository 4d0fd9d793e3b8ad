/* SPDX-License-Identifier: MIT */
/* A channel's sockets for sending. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_HOLD_DESTINATIONS_H
#define HOLDFAST_SUPERVISOR_HOLD_HOLD_DESTINATIONS_H

#include "supervisor/hold/hold.h"

/* Open what is missing. One that can't be reached, or whose socket can't be had, is down, and no
 * failure. 0, or -errno with why set. */
int hold_destinations_open(struct hold *hold, const struct channel_spec *spec, char *why,
                           size_t why_size);

/* Connect it as the settings say now. One that can't be is down, which is told. */
void hold_destination_try(struct hold *hold, const struct channel_spec *spec, uint32_t index);

/* Those that are down, that refuse what their worker sends, or whose interface has changed: can
 * they be reached now? What was lent already is lent as it then is. may_replace: also those with a
 * stand-in, whose worker then needs another socket. true: there is one that it doesn't have yet. */
bool hold_destinations_try_down(struct hold *hold, const struct channel_spec *spec,
                                bool may_replace);

/* The kernel says that this interface is gone; 0: it may have said so of any. */
void hold_destinations_interface_gone(struct hold *hold, unsigned index);

#endif
