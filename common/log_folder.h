/* SPDX-License-Identifier: MIT */
/* The log files of one channel's folder, for those who read: by name alone, without opening them.
 * Believes nothing: anybody may have put anything there. */
#ifndef HOLDFAST_COMMON_LOG_FOLDER_H
#define HOLDFAST_COMMON_LOG_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_name.h"

struct log_folder_file {
    char name[SEGMENT_NAME_SIZE];
    uint64_t first_seq; /* by its name */
    unsigned number;    /* those begun at one number in one second: 1, 2 ... */
    bool open;          /* .avro.open: being written, or never finished */
};

/* In the order in which they were recorded. An open one whose sealed twin (the same name without
 * .open) is there, too, is left out. */
struct log_folder {
    struct log_folder_file *files;
    size_t count;
};

/* Segments of this channel in the folder: sealed ones and open ones, no prepared, damaged or
 * mending ones. The descriptor's file offset is moved; it must be open for reading. 0 or -errno; to
 * be freed in both cases. */
int log_folder_read(int folder, const char *channel, struct log_folder *ret);
void log_folder_free(struct log_folder *folder);

/* The last file that begins at or before seq; 0 when all begin after it. count must not be 0. */
size_t log_folder_find_seq(const struct log_folder *list, uint64_t seq);

/* The first file that may hold a record received at time_ns or later: by bisection over what
 * headers say is the latest time up to there, which never falls; one that doesn't say it (open, or
 * older) is judged by those around it. count when there is none. Opens files; may wait for a disk.
 * Those that vanish meanwhile are passed over. */
size_t log_folder_find_time(int folder, const struct log_folder *list, uint64_t time_ns);

/* A file of it, read only, by a fresh descriptor; never another than a regular file of this folder
 * (openat2(2), RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS). Or -errno. */
int log_folder_open(int folder, const char *name);

#endif
