/* SPDX-License-Identifier: MIT */
/* `holdfastctl export`: what was recorded, as a file for other programs. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_EXPORT_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_EXPORT_H

#include "supervisor/ctl/ctl_options.h"

int ctl_export(const struct ctl_command *command);

#endif
