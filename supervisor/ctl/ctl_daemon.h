/* SPDX-License-Identifier: MIT */
/* Verbs about the supervisor as a whole: the command line takes no channel for them. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_DAEMON_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_DAEMON_H

#include "supervisor/ctl/ctl.h"

int ctl_ping(const struct ctl_options *options, const char *channel);
int ctl_check(const struct ctl_options *options, const char *channel);
int ctl_shutdown(const struct ctl_options *options, const char *channel);
int ctl_upgrade(const struct ctl_options *options, const char *channel);

#endif
