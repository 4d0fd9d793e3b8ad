/* SPDX-License-Identifier: MIT */
/* Results of the control socket, printed for people. The JSON is what control_report.h of the
 * supervisor makes; missing members are shown as nothing, never followed blindly. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_REPORT_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* ctl_status.c: all channels as a table, and below it what needs somebody's attention. */
void ctl_report_status(FILE *to, const json_t *status, bool colour);
/* ctl_status_channel.c: everything about one channel (a member of "channels"). */
void ctl_report_channel(FILE *to, const json_t *channel, bool colour);
/* ctl_status.c */
void ctl_report_check(FILE *to, const json_t *check, bool colour);
/* ctl_crashes.c */
void ctl_report_crashes(FILE *to, const json_t *crashes, bool colour);
/* "crash, SIGSEGV" or "exit, status 3": how somebody died. */
void ctl_report_end(FILE *to, const json_t *death);

#endif
