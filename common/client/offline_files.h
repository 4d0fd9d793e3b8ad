/* SPDX-License-Identifier: MIT */
/* The log files that a program named, sorted by channel and number. */
#ifndef HOLDFAST_COMMON_CLIENT_OFFLINE_FILES_H
#define HOLDFAST_COMMON_CLIENT_OFFLINE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/channel_spec.h"

struct offline_file {
    char *path; /* named by itself: its absolute path; NULL: it is in `folder` */
    int folder; /* of the set, or -1 */
    char name[SEGMENT_NAME_SIZE];
    char utc[AVRO_LOG_UTC_LENGTH + 1]; /* when it was begun */
    unsigned number;
    bool open;          /* by its name: never finished */
    bool by_name;       /* its name is one of the daemon's */
    uint64_t first_seq; /* by its name; else by its header or its first record */
    /* By its header, when it was looked at; 0 = not known. */
    uint64_t end_seq, latest_ns;
    uint8_t log_id[AVRO_LOG_ID_SIZE]; /* likewise */
};

struct offline_channel {
    char name[CHANNEL_NAME_SIZE];
    struct offline_file *files; /* in the order in which they were recorded; at least one */
    size_t count, room;
    char *mixed; /* NULL; or why these are no one recording: then they can't be read as one */
};

struct offline_set {
    struct offline_channel *channels; /* by name */
    size_t count, room;
    int *folders;
    size_t folder_count, folder_room;
};

/* A file, a channel's folder, or a log_dir. 0 or -errno: then *ret_what says why, "" when the error
 * number says it all. A folder without log files is no error. */
int offline_set_add(struct offline_set *set, const char *path, const char **ret_what);
/* When all are there: into their order; then each once. */
void offline_set_order(struct offline_set *set);
void offline_set_drop_twins(struct offline_set *set);
void offline_set_free(struct offline_set *set);

/* Read only, also when it was sealed and renamed meanwhile. Or -errno; -ENOENT: it was removed. */
int offline_file_open(const struct offline_file *file);

/* What its header says; and its size, unless ret_size is NULL. false when it can't be told. */
bool offline_file_identify(const struct offline_file *file, struct avro_log_identity *ret,
                           uint64_t *ret_size);
/* The folder in which all of them are, by name; -1: they are not. */
int offline_channel_folder(const struct offline_channel *channel);

/* NULL for the only one there is. NULL and -ENOENT or -EINVAL when there is none, or more, or
 * -ENOTUNIQ when it is `mixed`: the text is *ret_problem, else NULL. */
const struct offline_channel *offline_set_find(const struct offline_set *set, const char *channel,
                                               int *ret_error, const char **ret_problem);
/* The file with which to begin for this number: the last one that begins at or before it, or one
 * before that which holds it, too. */
size_t offline_channel_find_seq(const struct offline_channel *channel, uint64_t seq);
/* The first file that may hold a record of this time; count when there is none. */
size_t offline_channel_find_time(const struct offline_channel *channel, uint64_t time_ns);

#endif
