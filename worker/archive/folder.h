/* SPDX-License-Identifier: MIT */
/* Folders of channels below log_dir, and what lies in them (avro_log_name.h lists the names). */
#ifndef HOLDFAST_WORKER_ARCHIVE_FOLDER_H
#define HOLDFAST_WORKER_ARCHIVE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/avro_log_name.h"
#include "common/message.h"

/* May this be a segment of that channel that is being written? */
bool folder_is_open_name(const char *channel, const char *name);

#define FOLDER_NUMBERS 9 /* so many files of one stem and suffix, apart by number */

struct folder_file {
    char name[SEGMENT_NAME_SIZE];
    uint64_t first_seq; /* by its name; UINT64_MAX when it is none of a segment that was begun */
    unsigned number;
    char utc[AVRO_LOG_UTC_LENGTH]; /* of its name; not ended */
    bool refused;                  /* in part, by the disk (disk_refusal.h) */
    uint64_t id;                   /* inode number */
    uint64_t links;                /* more than 1: somebody has made it his own */
    uint64_t size;
    uint64_t disk_size;
    int64_t modified_s; /* wall clock */
};

/* What was set aside, or is being copied, stands beside the segment that has its records. */
bool folder_file_is_segment(const struct folder_file *file);

struct folder_list {
    /* By sequence number: oldest first. What has none, prepared ones among it, comes last. */
    struct folder_file *files;
    size_t count;
};

/* "<stem><suffix>" for n = 1, "<stem>-<n><suffix>" above, where open_name is "<stem>.avro.open". */
void folder_number_name(const char *open_name, const char *suffix, int n,
                        char ret_name[SEGMENT_NAME_SIZE]);
/* The open_name of a file of that stem and suffix. */
void folder_open_name(const char *name, const char *suffix, char ret_name[SEGMENT_NAME_SIZE]);
/* The file of that stem, suffix and number, if there is one. */
bool folder_has(int folder, const char *open_name, const char *suffix, int n, struct stat *ret);
/* Rename a file to open_name's stem and that suffix (sealed or damaged), numbered behind the last
 * one of either kind that exists already (begun at the same number in the same second); *ret_name
 * is what it became. The folder is synced. 0 or -errno. */
int folder_rename(int folder, const char *from, const char *open_name, const char *suffix,
                  char ret_name[SEGMENT_NAME_SIZE]);
/* Exactly to that name, which nobody has. */
int folder_rename_to(int folder, const char *from, const char *name);
/* The same for the sealed copy of a file that was set aside: it gets that one's number. */
int folder_rename_copy(int folder, const char *from, const char *open_name,
                       char ret_name[SEGMENT_NAME_SIZE]);

/* The channel's folder as a descriptor, made first if `create` is set. Or -errno. */
int folder_open(const char *log_dir, const char *channel, bool create);
/* While it is recovered, or one of its segments is sealed, nobody else does that: an archive before
 * this one may have left a recovery that is still about to die, or a sweep may be there. 0 with a
 * descriptor that is the lock (-1 where there can be none), or -EBUSY after `patience`. */
int folder_lock(int folder, uint64_t patience_ns, int *ret_fd);
/* The channel's files in it, and what else is called like them. 0 or -errno; to be freed with
 * folder_list_free() in both cases. */
int folder_list(int folder, const char *channel, struct folder_list *ret);
void folder_list_free(struct folder_list *list);

/* What an error on this path means to the one who has to mend it: "<log_dir>/<channel>: No space
 * left on device; free some space, ...". */
void folder_explain(const char *log_dir, const char *channel, int error,
                    char reason[MESSAGE_REASON_SIZE]);

#endif
