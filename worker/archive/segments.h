/* SPDX-License-Identifier: MIT */
/* How a segment's life on disk begins. Each fills *ret completely; ret->error is 0 or an errno,
 * ret->reason a text that says what to do. */
#ifndef HOLDFAST_WORKER_ARCHIVE_SEGMENTS_H
#define HOLDFAST_WORKER_ARCHIVE_SEGMENTS_H

#include "common/message.h"

/* *ret_fd is the caller's, -1 on error. Whoever has it, or a copy, holds a lock on the file
 * (flock(2) belongs to the open file description): recovery leaves a file alone as long as any
 * process has it. */
void segments_open(const char *log_dir, const struct message_open_segment *request,
                   struct message_segment *ret, int *ret_fd);
/* 0 or -errno; logs what failed: there is no answer to this message. */
int segments_begin(const char *log_dir, const struct message_begin_segment *request);

/* Numbers below next_seq were given, and the records of the last ones could not be written: an
 * empty sealed segment says so, where no other file does. */
void segments_note_numbers(const char *log_dir, const struct message_numbers *request,
                           struct message_numbered *ret);

#endif
