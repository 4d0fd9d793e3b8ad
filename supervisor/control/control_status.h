/* SPDX-License-Identifier: MIT */
/* What `status` tells about channels, as JSON (holdfastctl.1). Every call returns a new
 * reference. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_STATUS_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_STATUS_H

#include <jansson.h>

#include "supervisor/supervisor.h"

/* channel: NULL = all of them. */
json_t *control_status(const struct supervisor *supervisor, const struct channel *channel);
/* The segment that is being written, by name; JSON null while there is none. */
json_t *control_status_segment(const struct channel *channel);
/* The first number of the segment that the worker writes to, or will begin; null when that can't be
 * read. */
json_t *control_status_worker_segment(const struct channel *channel);

#endif
