/* SPDX-License-Identifier: MIT */
/* `holdfastctl fetch`: log files of a running daemon, as they are. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_FETCH_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_FETCH_H

#include "supervisor/ctl/ctl_options.h"

int ctl_fetch(const struct ctl_command *command);

#endif
