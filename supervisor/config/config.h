/* SPDX-License-Identifier: MIT */
/* The configuration file (holdfast.conf.5) as plain settings. libconfuse stays behind this header.
 */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_H

#include <stdio.h>
#include <sys/types.h>

#include "common/channel_spec.h"
#include "supervisor/policy/restart_policy.h"

struct settings {
    char log_dir[512];
    char control_socket[108]; /* sun_path */
    mode_t control_mode;
    char control_group[64]; /* "" = leave it */
    uint32_t spare_workers;
    uint64_t hang_timeout_ns;
    struct restart_limits restart;
    size_t channel_count;
    struct channel_spec **channels; /* each of its own size: destinations follow */
};

/* One message per line, "FILE:LINE: what and how to mend it". */
struct config_errors {
    size_t count;
    char *text; /* NULL when count is 0; freed by config_errors_free() */
};

/* Read and check the whole file. 0 and *ret_settings, or -EINVAL with every error found, or -errno
 * when the file can't be read (errors has one line then too). */
int config_load(const char *path, struct settings **ret_settings, struct config_errors *ret_errors);
void config_errors_free(struct config_errors *errors);
void settings_free(struct settings *settings);

/* Canonical form: every key, also those at their default. Reading it again gives the same settings
 * and the same text. */
void config_print(FILE *to, const struct settings *settings);

#endif
