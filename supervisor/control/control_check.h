/* SPDX-License-Identifier: MIT */
/* Whether all is well, and what is not: `check` (holdfastctl.1), and the judgements it is made of.
 */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_CHECK_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_CHECK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "supervisor/supervisor.h"

/* A new reference. */
json_t *control_check(const struct supervisor *supervisor);

/* Of a destination, by its place in the configuration; "" when it can be reached. */
const char *control_check_why_down(const struct channel *channel, uint32_t index);
/* The interface that it receives at is there, but not up; "" when it is. */
const char *control_check_interface_down(const struct channel *channel);
/* Why nothing can come in; "" when it can. */
const char *control_check_receive_trouble(const struct channel *channel);
/* Of its recording; "" when all is well. */
const char *control_check_trouble(const struct channel *channel);
/* How many of its segments could not be sealed so far; *ret_name: one of them, or which ones. */
size_t control_check_unsealed(const struct channel *channel, const char **ret_name);
/* It should record, runs, and has nowhere to: why; NULL when that is not so. */
const char *control_check_records_nothing(const struct channel *channel);

#endif
