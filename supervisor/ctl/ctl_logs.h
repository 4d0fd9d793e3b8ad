/* SPDX-License-Identifier: MIT */
/* `holdfastctl logs`: the log files there are. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_LOGS_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_LOGS_H

#include "supervisor/ctl/ctl_options.h"

int ctl_logs(const struct ctl_command *command);

#endif
