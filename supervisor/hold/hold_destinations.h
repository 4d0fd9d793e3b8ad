/* SPDX-License-Identifier: MIT */
/* A channel's sockets for sending. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_HOLD_DESTINATIONS_H
#define HOLDFAST_SUPERVISOR_HOLD_HOLD_DESTINATIONS_H

#include "supervisor/hold/hold.h"

/* Open what is missing. One that can't be reached is down, and no failure. 0, or -errno with why
 * set. */
int hold_destinations_open(struct hold *hold, const struct channel_spec *spec, char *why,
                           size_t why_size);

/* Connect it as the settings say now. One that can't be is down, which is told. */
void hold_destination_try(struct hold *hold, const struct channel_spec *spec, uint32_t index);

/* Those that are down, or whose interface has changed: can they be reached now? What was lent
 * already is lent as it then is. */
void hold_destinations_try_down(struct hold *hold, const struct channel_spec *spec);

#endif
