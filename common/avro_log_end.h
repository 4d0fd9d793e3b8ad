/* SPDX-License-Identifier: MIT */
/* How far a log file goes: questions that are answered without reading all of it. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_END_H
#define HOLDFAST_COMMON_AVRO_LOG_END_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_scan.h"

/* Is there nothing but zeros in it, as in a segment that was made and not begun? 1, 0 or -errno. */
int avro_log_is_blank(int fd);

/* A sealed file's last two blocks, and with them last_seq; all of the file where they are not
 * sound. *ret is of what was read: records is 0 when there is no sound one, faults when it is
 * damaged. 0 or -errno. */
int avro_log_look_at_end(int fd, struct avro_log_summary *ret);

struct avro_log_last {
    bool found; /* it has records, or had some: */
    uint64_t seq;
    bool in_header; /* its header says so, whatever may be left of it */
    bool damaged;   /* its end is */
};

/* The last number that a sealed file has, or had. 0 or -errno: it can't be read, and *ret is what
 * its header says. */
int avro_log_find_last(int fd, struct avro_log_last *ret);

/* So many records more than are sound does the header of the last block promise that has one, if
 * that is plausible; *ret_end: where they end, with what a recorder writes behind a block. */
uint64_t avro_log_promised_more(int fd, const struct avro_log_summary *summary, uint64_t *ret_end);

/* *summary is of a file that was being written. Does something lie behind the last sound record
 * that no recorder leaves when it is killed, or do the sound ones end before size_end, where the
 * last one ended when it was committed? Then records were written that are not sound any more. 1, 0
 * or -errno. */
int avro_log_lacks_end(int fd, const struct avro_log_scan_options *options,
                       const struct avro_log_summary *summary);

#endif
