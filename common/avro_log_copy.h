/* SPDX-License-Identifier: MIT */
/* Copies the sound records of a damaged log file into a new, sealed one: the archive's mending,
 * holdfastctl recover. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_COPY_H
#define HOLDFAST_COMMON_AVRO_LOG_COPY_H

#include "common/avro_log_scan.h"

struct avro_log_copy {
    int from_fd;
    int to_fd; /* an empty file */
    struct avro_log_scan_options options;
    const char *channel; /* for the new header where the original's is unreadable */
    /* For the new header: of the recording, where the original doesn't say it, or NULL; the largest
     * receive time of the log before this file, or 0. */
    const uint8_t *log_id;
    uint64_t latest_before_ns;
    /* Or NULL. Its faults and gaps are reported, its records not. */
    const struct avro_log_visitor *visitor;
};

/* Scan from_fd and write every sound record to to_fd; blocks end at 64 KiB and at every gap. The
 * new file has a sync marker of its own. Nothing is written when there is no sound record. 0, or
 * -errno of either file; *ret is the original's summary. */
int avro_log_copy(const struct avro_log_copy *copy, struct avro_log_summary *ret);

#endif
