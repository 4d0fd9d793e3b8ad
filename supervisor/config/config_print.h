/* SPDX-License-Identifier: MIT */
/* Settings as a configuration file that says the same. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_PRINT_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_PRINT_H

#include <stdio.h>

struct settings;

/* Canonical form: every key, also those at their default. Reading it again gives the same settings
 * and the same text. */
void config_print(FILE *to, const struct settings *settings);

#endif
