/* SPDX-License-Identifier: MIT */
/* publish: the standard input into a channel. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_PUBLISH_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_PUBLISH_H

#include "supervisor/ctl/ctl_options.h"

int ctl_publish(const struct ctl_command *command);

#endif
