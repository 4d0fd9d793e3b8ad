/* SPDX-License-Identifier: MIT */
/* The daemon: everything made, wired together and run. */
#ifndef HOLDFAST_SUPERVISOR_DAEMON_H
#define HOLDFAST_SUPERVISOR_DAEMON_H

#include <stddef.h>

#include "supervisor/config/settings.h"
#include "supervisor/system/process.h"

/* Run until a signal or an operator ends it. The settings become the daemon's. Returns the exit
 * status; *why holds the reason when it could not start. */
int daemon_run(struct settings *settings, const struct program *program, char *why,
               size_t why_size);

#endif
