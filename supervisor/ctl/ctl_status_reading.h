/* SPDX-License-Identifier: MIT */
/* How the gate serves, for people. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_STATUS_READING_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_STATUS_READING_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* A line for each way in which log files were handed out; `all`: for everything that is counted.
 * read: `read` of a result of status. How many lines. */
size_t ctl_print_reading(FILE *to, const json_t *read, bool all);

#endif
