/* SPDX-License-Identifier: MIT */
/* `holdfastctl readers`, `positions` and `forget`: who reads, and how far named readers have come.
 */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_READERS_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_READERS_H

#include "supervisor/ctl/ctl_options.h"

int ctl_readers(const struct ctl_command *command);
int ctl_positions(const struct ctl_command *command);
int ctl_forget(const struct ctl_command *command);

#endif
