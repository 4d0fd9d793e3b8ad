/* SPDX-License-Identifier: MIT */
/* `status`: all channels, or one; and what `check` has to say about them. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_STATUS_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_STATUS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "supervisor/ctl/ctl.h"

int ctl_status(const struct ctl_options *options, const char *channel);

void ctl_report_check(FILE *to, const json_t *check, bool colour);

#endif
