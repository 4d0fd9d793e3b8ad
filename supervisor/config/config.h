/* SPDX-License-Identifier: MIT */
/* The configuration file (holdfast.conf.5) as plain settings. libconfuse stays behind this header.
 */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_H

#include "supervisor/config/config_errors.h"
#include "supervisor/config/settings.h"

/* Read and check the whole file. 0 and *ret_settings, or -EINVAL with every error found, or -errno
 * when the file can't be read (errors has one line then too). */
int config_load(const char *path, struct settings **ret_settings, struct config_errors *ret_errors);

/* The file may have changed since its text was read: that can be kept, and read again. */
struct config_source {
    const char *path;
    int from;    /* the text is read from here, and path is only its name; -1: from the file */
    int copy_to; /* a memory file that gets the text, or -1 */
};
int config_load_from(const struct config_source *source, struct settings **ret_settings,
                     struct config_errors *ret_errors);

#endif
