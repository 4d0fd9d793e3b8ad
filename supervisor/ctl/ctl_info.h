/* SPDX-License-Identifier: MIT */
/* `holdfastctl info`: what a recording holds, counted. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_INFO_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_INFO_H

#include "supervisor/ctl/ctl_options.h"

int ctl_info(const struct ctl_command *command);

#endif
