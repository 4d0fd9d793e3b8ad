/* SPDX-License-Identifier: MIT */
/* `capabilities`: what the running kernel gives to holdfast, found out by trying it. Asks no
 * daemon. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_CAPABILITIES_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_CAPABILITIES_H

#include "supervisor/ctl/ctl.h"

/* CTL_NO when something is missing without which holdfastd does not run. */
int ctl_capabilities(const struct ctl_options *options);

#endif
