/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* Names of log files (holdfast-log.5), made and taken apart in this one place.
 *
 *   <log_dir>/<channel>/<channel>-prepared-<unique>.avro.open       made, preallocated, not yet begun
 *                       <channel>-<first_seq>-<UTC>.avro.open       being written
 *                       <channel>-<first_seq>-<UTC>.avro            sealed: complete, never touched again
 *                       <channel>-<first_seq>-<UTC>.avro.mending    sound records being copied out of a damaged file
 *                       <channel>-<first_seq>-<UTC>.avro.damaged    the original behind a mended file
 *
 * first_seq has 20 digits, UTC is yyyymmddThhmmssZ. */
/* clang-format on */
#ifndef HOLDFAST_COMMON_AVRO_LOG_NAME_H
#define HOLDFAST_COMMON_AVRO_LOG_NAME_H

#include <stdbool.h>
#include <stdint.h>

#include "common/channel_spec.h"

#define SEGMENT_NAME_SIZE       128 /* file name inside the channel's folder, with the closing zero */

#define AVRO_LOG_SUFFIX         ".avro"
#define AVRO_LOG_OPEN_SUFFIX    ".avro.open"
#define AVRO_LOG_MENDING_SUFFIX ".avro.mending"
#define AVRO_LOG_DAMAGED_SUFFIX ".avro.damaged"

/* A segment's name while it is being written. */
void avro_log_segment_name(const char *channel, uint64_t first_seq, uint64_t created_ns,
                           char ret_name[SEGMENT_NAME_SIZE]);
/* Its name before it is begun. */
void avro_log_prepared_name(const char *channel, uint64_t unique, char ret_name[SEGMENT_NAME_SIZE]);

/* Also of a path. True only if something stands before the suffix. */
bool avro_log_name_ends_in(const char *name, const char *suffix);
/* May this be a file of that channel? Never true for a name with a slash. */
bool avro_log_name_is_of(const char *name, const char *channel);
/* The following two are for names that avro_log_name_is_of() this channel. */
bool avro_log_name_is_prepared(const char *name, const char *channel);
/* "<channel>-<first_seq>-<UTC>[-<number>].avro..." in its parts; false when it has another shape:
 * then it is none of ours. */
struct avro_log_name {
    uint64_t first_seq;
    unsigned number; /* 1, or 2 and up for those begun at one number in one second */
    const char *utc; /* in name: text that sorts, not ended behind AVRO_LOG_UTC_LENGTH */
};
#define AVRO_LOG_UTC_LENGTH 16
bool avro_log_name_parse(const char *name, const char *channel, struct avro_log_name *ret);

/* The channel by its file's name alone, for a file that doesn't say it itself: what stands before
 * the first number of 20 digits, or before the first dot. Cut to fit. */
void avro_log_name_channel(const char *name, char ret_channel[CHANNEL_NAME_SIZE]);

#endif
