/* SPDX-License-Identifier: MIT */
/* All channels at a glance. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_STATUS_LIST_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_STATUS_LIST_H

#include <jansson.h>
#include <stdio.h>

#include "supervisor/ctl/ctl_text.h"

/* All channels of a result of status as a table, those in trouble first, with their sums; below it
 * what needs somebody's attention. Where look->rows is too few, it says what it leaves out; where
 * look->columns is, columns go, the least needed first. */
void ctl_report_status(FILE *to, const json_t *status, const struct ctl_look *look);

#endif
