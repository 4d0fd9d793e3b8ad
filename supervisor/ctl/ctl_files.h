/* SPDX-License-Identifier: MIT */
/* The files that verify and recover are given, one after the other. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_FILES_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_FILES_H

#include <jansson.h>
#include <stdbool.h>

#include "common/avro_log_scan.h"

struct ctl_files {
    const char *output; /* -o OUT; NULL when it was not given */
    char **paths;
    int count;
};

/* Take what follows the verb apart: -o OUT, if the verb has that option, then "--" if a file's name
 * begins with "-", then files. 0, or -EINVAL for another option or none behind -o. */
int ctl_files_take(int argc, char **argv, bool has_output, struct ctl_files *ret);

/* How to scan this file: as one that is being written, if its name says so. */
struct avro_log_scan_options ctl_files_scan_options(const char *path);

/* Do one file after the other: `one` prints what it found, or with ret_report makes an object of
 * it, and says whether all is well. Then print the report, if `json`. CTL_OK, or CTL_NO when any
 * was not well. */
int ctl_files_each(const struct ctl_files *files, bool json,
                   bool (*one)(void *context, const char *path, json_t **ret_report),
                   void *context);

#endif
