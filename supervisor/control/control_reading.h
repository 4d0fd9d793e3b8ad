/* SPDX-License-Identifier: MIT */
/* What `status` and `ping` say of how readers are served, as JSON. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_READING_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_READING_H

#include <jansson.h>

#include "supervisor/supervisor.h"

/* A new reference each. */
json_t *control_reading(const struct supervisor *supervisor);
/* Where readers connect, as somebody in another folder would name it; null where nobody can. */
json_t *control_reading_socket(const struct supervisor *supervisor);

#endif
