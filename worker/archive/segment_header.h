/* SPDX-License-Identifier: MIT */
/* What the archive puts into a segment's header, and learns from the headers of others. */
#ifndef HOLDFAST_WORKER_ARCHIVE_SEGMENT_HEADER_H
#define HOLDFAST_WORKER_ARCHIVE_SEGMENT_HEADER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/avro_log_header.h"
#include "common/avro_log_scan.h"

/* Which recording this folder holds, by the newest segment that says it. 1, 0 if none does, or
 * -errno. */
int segment_header_log_id(int folder, const char *channel, uint8_t ret[AVRO_LOG_ID_SIZE]);

/* The largest receive time of the log before the segment that begins at first_seq, by the newest
 * one before it that says it. One that is still open is read. 0 if none does. */
uint64_t segment_header_latest_before(int folder, const char *channel, uint64_t first_seq);

/* Write into the segment's header what a scan has found in it. 0 (also when the segment is an older
 * version's, which has no room for it) or -errno. Not synced. */
int segment_header_finish(int folder, const char *channel, int fd,
                          const struct avro_log_summary *summary);

/* What a new segment of this folder's recording says of itself besides channel, listen address and
 * first number, which the caller has set. 0 or -errno. */
int segment_header_new_identity(int folder, struct avro_log_identity *identity);

/* Begin a file that is all zeros: it is a segment without records then, which says that the numbers
 * below its first were given. 0 or -errno. Not synced. */
int segment_header_begin(int fd, const struct avro_log_identity *identity);

/* Does a file of the channel, other than this one (0: any), say that the number before first_seq
 * was given? True for 0. */
bool segment_header_is_remembered(int folder, const char *channel, uint64_t first_seq, ino_t own);

#endif
