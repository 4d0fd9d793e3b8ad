/* SPDX-License-Identifier: MIT */
/* Who writes into a channel, for `status`. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_PUBLISHERS_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_PUBLISHERS_H

#include <jansson.h>

#include "supervisor/channel/channel.h"

/* {most, outbox_bytes, list: [...]}; null for a channel that receives UDP. */
json_t *control_publishers(const struct channel *channel);

#endif
