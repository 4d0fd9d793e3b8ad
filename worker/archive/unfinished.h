/* SPDX-License-Identifier: MIT */
/* One open segment that nobody writes to any more becomes a sealed one. */
#ifndef HOLDFAST_WORKER_ARCHIVE_UNFINISHED_H
#define HOLDFAST_WORKER_ARCHIVE_UNFINISHED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "worker/archive/folder.h"

struct unfinished {
    int folder;
    const char *channel;
    const char *name;
    /* Writing it failed, and the kernel takes for written what may be in memory only: a copy
     * becomes the sealed one. Another fsync(2) would only seem to succeed, and what is written once
     * more into the same pages may stay out of the file. */
    bool copy;
    /* seq_end: where another file begins, which has what may lie behind */
    struct avro_log_scan_options options;
};

struct unfinished_outcome {
    bool unreadable;              /* after -EIO: it is the file that the disk can't read */
    char name[SEGMENT_NAME_SIZE]; /* what the file is called now; "" when it was removed */
    uint64_t length;
    bool has_records;
    /* By the file's header, which may be lower than its first record, unless that may be a header
     * that another one was to replace. */
    uint64_t first_seq;
    uint64_t last_seq;
};

/* 0 or -errno. After -ENOSPC the file is as it was, and *ret says what is in it. -EIO, and not
 * unreadable: something could not be written or renamed; every sound record is still there. */
int unfinished_finish(const struct unfinished *file, struct unfinished_outcome *ret);

/* The same for one alone: where another file begins is found out. */
int unfinished_finish_alone(struct unfinished *file, struct unfinished_outcome *ret);

/* A sealed file that the disk has refused a part of: its records go into another file, which then
 * gets its name. file->name ends in .avro, and stays as it is if that can't be done. 0 or -errno.
 */
int unfinished_copy_sealed(const struct unfinished *file, struct unfinished_outcome *ret);

/* No record is in it. It is removed, unless its number is remembered nowhere else: then it is
 * sealed, empty. 0 or -errno. */
int unfinished_finish_empty(const struct unfinished *file, int fd, const char *why,
                            struct unfinished_outcome *ret);

/* Nothing of use is in it: remove it. 0 or -errno. */
int unfinished_discard(int folder, const char *channel, const char *name, const char *why);
/* Keep it as .avro.damaged. 0 or -errno. */
int unfinished_set_aside(int folder, const char *channel, const char *name, const char *what);

/* What the file is called, or was, whose sound records are being copied to this one. */
#define UNFINISHED_ORIGINAL_SIZE (SEGMENT_NAME_SIZE + sizeof AVRO_LOG_OPEN_SUFFIX)
void unfinished_original_name(const char *mending, char ret_name[UNFINISHED_ORIGINAL_SIZE]);
/* What such a copy, and its original, should have been called when that was begun. 0, -EBADMSG when
 * it has no header, or -errno. */
int unfinished_name_of_copy(int folder, const char *channel, const char *mending,
                            char ret_open_name[SEGMENT_NAME_SIZE]);
/* Give a complete copy of sound records its name. 0 or -errno. */
int unfinished_finish_mending(int folder, const char *channel, const char *mending,
                              char ret_name[SEGMENT_NAME_SIZE]);

#endif
