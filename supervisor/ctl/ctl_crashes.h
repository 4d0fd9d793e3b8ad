/* SPDX-License-Identifier: MIT */
/* `crashes`: how workers died. A report prints what the control socket said (holdfastctl.1): what
 * is missing in it is shown as nothing, and nothing in it is followed blindly. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_CRASHES_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_CRASHES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "supervisor/ctl/ctl.h"

int ctl_crashes(const struct ctl_options *options, const char *channel);

void ctl_report_crashes(FILE *to, const json_t *crashes, bool colour);

/* "crash, SIGSEGV" or "exit, status 3": how somebody died. */
void ctl_report_end(FILE *to, const json_t *death);

#endif
