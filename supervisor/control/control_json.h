/* SPDX-License-Identifier: MIT */
/* Numbers and times as the control socket's reports give them. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_JSON_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_JSON_H

#include <jansson.h>
#include <stdint.h>

/* JSON integers end at 2^63-1: what is larger is given as that. */
json_t *control_json_number(uint64_t value);
void control_json_set_number(json_t *object, const char *key, uint64_t value);

/* Seconds, to the microsecond. */
json_t *control_json_seconds(uint64_t ns);

#endif
