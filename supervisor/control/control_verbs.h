/* SPDX-License-Identifier: MIT */
/* The verbs of the control socket. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_VERBS_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_VERBS_H

#include "supervisor/control/control_client.h"

/* One verb; a control_serve. data: the supervisor. */
json_t *control_verb(void *data, const struct ucred *peer, const char *method, const json_t *params,
                     int *ret_code, json_t **ret_error);

#endif
