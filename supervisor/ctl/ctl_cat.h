/* SPDX-License-Identifier: MIT */
/* `holdfastctl cat`: what was recorded, and what comes, as text. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_CAT_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_CAT_H

#include "supervisor/ctl/ctl_options.h"

int ctl_cat(const struct ctl_command *command);

#endif
