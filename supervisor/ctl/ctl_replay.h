/* SPDX-License-Identifier: MIT */
/* `holdfastctl replay`: what was recorded, sent again in its own time. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_REPLAY_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_REPLAY_H

#include "supervisor/ctl/ctl_options.h"

int ctl_replay(const struct ctl_command *command);

#endif
