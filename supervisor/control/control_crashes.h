/* SPDX-License-Identifier: MIT */
/* What is known of deaths, as JSON (holdfastctl.1). Every call returns a new reference. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_CRASHES_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_CRASHES_H

#include <jansson.h>

#include "supervisor/channel/channels.h"

/* channel: NULL = the newest of all. */
json_t *control_crashes(const struct channels *channels, const struct obituary_list *gate,
                        const struct channel *channel);
/* The last death in short, for status; JSON null when nobody died. */
json_t *control_crashes_last(const struct obituary_list *list);

#endif
