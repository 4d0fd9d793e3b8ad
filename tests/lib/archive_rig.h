/* SPDX-License-Identifier: MIT */
/* A real archive in a process of its own, below a temporary folder, with the test in the
 * supervisor's place. */
#ifndef HOLDFAST_TESTS_LIB_ARCHIVE_RIG_H
#define HOLDFAST_TESTS_LIB_ARCHIVE_RIG_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/message.h"
#include "tests/lib/log_maker.h"

#define RIG_CHANNEL "engine"
#define RIG_SEGMENT (256 * 1024)

struct archive_rig {
    char folder[64];    /* everything of this test */
    char log_dir[128];  /* folder/log, not made yet */
    char channel[192];  /* log_dir/engine */
    char log_path[128]; /* what the archive says on stderr */
    int socket;
    /* As the archive last said in LOG_DIR: what the supervisor would hold, -1 = none. */
    int lock;
    int log_dir_error;
    uint64_t outer_mount;
    pid_t pid;
    /* Before it is started: system calls that its file system shall seem not to know. */
    bool without_noreplace, without_links;
    const struct denied_call *denied; /* ... or that it refuses; NULL = none */
};

/* Make the folder and the socket; archive_rig_start() begins the process, so that messages may be
 * queued before. */
void archive_rig_prepare(struct archive_rig *rig);
void archive_rig_start(struct archive_rig *rig);
/* The log_dir and the channel's folder in it. */
void archive_rig_make_folder(const struct archive_rig *rig);
/* blocks of 20 records, the last one left open; the names it has and will have */
void archive_rig_make_log(struct log_maker *maker, uint64_t seed, uint64_t first_seq, int blocks,
                          char ret_open[SEGMENT_NAME_SIZE], char ret_sealed[SEGMENT_NAME_SIZE]);
/* Kill it and begin another one on a new socket. */
void archive_rig_replace(struct archive_rig *rig);
/* Close the socket, expect exit status 0, remove the folder. */
void archive_rig_end(struct archive_rig *rig);
/* Wait for the process with a deadline; returns the exit status, -1 if a signal ended it. */
int archive_rig_wait(struct archive_rig *rig);

void archive_rig_send(struct archive_rig *rig, enum message_type type, const void *payload,
                      size_t size);
/* The next answer, which must come within 10 s and be of this type. Valid until the next call. */
struct message *archive_rig_receive(struct archive_rig *rig, enum message_type type);

/* OPEN_SEGMENT and its answer; *ret_fd is the caller's. */
struct segment_grant archive_rig_open(struct archive_rig *rig, const char *channel, uint64_t size,
                                      int *ret_fd);
void archive_rig_begin(struct archive_rig *rig, const char *from, const char *to);
struct message_sealed archive_rig_seal(struct archive_rig *rig, const char *name, uint64_t id,
                                       uint64_t length);
/* keep: up to two names, or NULL */
struct message_recovered archive_rig_recover(struct archive_rig *rig, const char *keep0,
                                             const char *keep1);
/* EXPIRE has no answer: returns when it has been served. */
void archive_rig_expire(struct archive_rig *rig, const struct message_expire *limits);

/* About files in the channel's folder. */
bool archive_rig_has(const struct archive_rig *rig, const char *name);
/* How many files there end in this. */
int archive_rig_count(const struct archive_rig *rig, const char *suffix);
/* Size, or -1; *ret_bytes (may be NULL) is the caller's to free. */
long archive_rig_read(const struct archive_rig *rig, const char *name, uint8_t **ret_bytes);
uint64_t archive_rig_inode(const struct archive_rig *rig, const char *name);
/* Scan a sealed file there: it must be without fault, and every record genuine. */
void archive_rig_check_sealed(const struct archive_rig *rig, const struct log_maker *maker,
                              const char *name, uint64_t first_seq, uint64_t records);
/* Does the archive's own log contain this text? */
bool archive_rig_said(const struct archive_rig *rig, const char *text);

#endif
