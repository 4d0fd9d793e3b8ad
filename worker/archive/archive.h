/* SPDX-License-Identifier: MIT */
/* The archive process: the only one that touches log_dir. archive.c serves messages; the rest does
 * the work.
 *
 *   <log_dir>/<channel>/<channel>-prepared-<unique>.avro.open       made, preallocated, not yet
 * begun <channel>-<first_seq>-<UTC>.avro.open       being written <channel>-<first_seq>-<UTC>.avro
 * sealed: complete, never touched again <channel>-<first_seq>-<UTC>.avro.mending    sound records
 * being copied out of a damaged file <channel>-<first_seq>-<UTC>.avro.damaged    the original
 * behind a mended file
 *
 * Whoever was handed a segment's descriptor holds a lock on it (flock(2), it belongs to the open
 * file description): recovery leaves a file alone as long as any process still has it. */
#ifndef HOLDFAST_WORKER_ARCHIVE_ARCHIVE_H
#define HOLDFAST_WORKER_ARCHIVE_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/message.h"

/* Serve the supervisor on fd 3 until it closes or says STOP. Returns the exit status. */
int archive_run(const struct message_assign *assign, uint64_t generation);

/* ---- segments.c: one segment's life. Each fills *ret completely; ret->error is 0 or an errno,
 * ret->reason a text that says what to do. *ret_fd is the caller's, -1 on error. ---- */
void segments_open(const char *log_dir, const struct message_open_segment *request,
                   struct message_segment *ret, int *ret_fd);
/* 0 or -errno; logs what failed: there is no answer to this message. */
int segments_begin(const char *log_dir, const struct message_begin_segment *request);
void segments_seal(const char *log_dir, const struct message_seal *request,
                   struct message_sealed *ret);

/* ---- recovery.c ---- */
void recovery_run(const char *log_dir, const struct message_recover *request,
                  struct message_recovered *ret);

struct recovery_outcome {
    char name[SEGMENT_NAME_SIZE]; /* what the file is called now; "" when it was removed */
    uint64_t length;
    bool has_records;
    uint64_t first_seq; /* by the file's header, which may be lower than its first record */
    uint64_t last_seq;
};
/* Finish one .avro.open that nobody writes to any more. Bytes from size_end on were never committed
 * (0: unknown). 0 or -errno. */
int recovery_finish(int folder, const char *channel, const char *name, uint64_t size_end,
                    struct recovery_outcome *ret);

/* ---- retention.c ---- */
void retention_apply(const char *log_dir, const struct message_expire *limits);

/* ---- folder.c ---- */
#define FOLDER_NUMBERS 9 /* files of one name */

struct folder_file {
    char name[SEGMENT_NAME_SIZE];
    uint64_t size;
    uint64_t disk_size;
    int64_t modified_s; /* wall clock */
};

struct folder_list {
    struct folder_file *files; /* by name: oldest first, prepared ones last */
    size_t count;
};

/* "<stem><suffix>" for n = 1, "<stem>-<n><suffix>" above, where open_name is "<stem>.avro.open". */
void folder_number_name(const char *open_name, const char *suffix, int n,
                        char ret_name[SEGMENT_NAME_SIZE]);
/* Rename a file to open_name's stem and that suffix, numbered where such a file exists already (a
 * clock that was set back); *ret_name is what it became. The folder is synced. 0 or -errno. */
int folder_rename(int folder, const char *from, const char *open_name, const char *suffix,
                  char ret_name[SEGMENT_NAME_SIZE]);

/* The channel's folder as a descriptor, made first if `create` is set. Or -errno. */
int folder_open(const char *log_dir, const char *channel, bool create);
/* The channel's files in it. 0 or -errno; to be freed with folder_list_free() in both cases. */
int folder_list(int folder, const char *channel, struct folder_list *ret);
void folder_list_free(struct folder_list *list);

/* What an error on this path means to the one who has to mend it: "no space left ...: free some
 * ...". */
void folder_explain(const char *log_dir, const char *channel, int error,
                    char reason[MESSAGE_REASON_SIZE]);

#endif
