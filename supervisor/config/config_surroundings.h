/* SPDX-License-Identifier: MIT */
/* What a configuration asks of this machine, which may be there later, or never. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_SURROUNDINGS_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_SURROUNDINGS_H

#include <stdio.h>
#include <sys/resource.h>

#include "supervisor/config/settings.h"

/* How many descriptors holdfastd may need at a time with these settings. */
rlim_t config_surroundings_descriptors(const struct settings *settings);

/* For --check: name what is missing, each with `path` and what to do. Returns how many of it would
 * keep the daemon from starting; the rest are warnings. May wait for a name service and for a disk.
 */
int config_surroundings_report(FILE *to, const char *path, const struct settings *settings);

#endif
