/* SPDX-License-Identifier: MIT */
/* Verbs that change one channel. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_CHANNEL_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_CHANNEL_H

#include "common/control_protocol.h"
#include "supervisor/ctl/ctl.h"

/* start, stop, restart, reset-failed, rotate */
int ctl_change(const struct ctl_options *options, enum control_verb_id verb, const char *channel);

#endif
