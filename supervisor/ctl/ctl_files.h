/* SPDX-License-Identifier: MIT */
/* The files that verify and recover are given, one after the other. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_FILES_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_FILES_H

#include <jansson.h>
#include <stdbool.h>

#include "common/avro_log_scan.h"

struct ctl_files {
    char **paths;
    int count;
    bool takes_folders; /* a folder stands for the log files in it */
};

/* How to scan this file: as one that is being written, if its name says so; past what the disk
 * can't read. */
struct avro_log_scan_options ctl_files_scan_options(const char *path);

struct ctl_file {
    const char *path;
    bool listed; /* found in a folder, not named by the user */
};

enum ctl_files_verdict {
    CTL_FILES_OK,
    CTL_FILES_FAULTY,
    CTL_FILES_GONE, /* it was listed, and is not there any more; nothing was reported */
};

/* Prints what it found, or with ret_report makes an object of it. */
typedef enum ctl_files_verdict (*ctl_files_report)(void *context, const struct ctl_file *file,
                                                   json_t **ret_report);

/* Do one file after the other. Then print the report, if `json`. CTL_OK, or CTL_NO when any was not
 * well, or there was none. */
int ctl_files_each(const struct ctl_files *files, bool json, ctl_files_report one, void *context);

/* Text for a report. What is no UTF-8 has \xHH for each byte that no ASCII text has. */
json_t *ctl_files_json_text(const char *text);

#endif
