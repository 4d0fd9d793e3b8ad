/* SPDX-License-Identifier: MIT */
/* How a log file is to be scanned, and who is told what is found. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_VISITOR_H
#define HOLDFAST_COMMON_AVRO_LOG_VISITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_format.h"

struct avro_log_found {
    struct avro_log_record record; /* points into bytes; valid during the call only */
    const uint8_t *bytes;          /* the record as encoded */
    size_t length;
    uint64_t offset; /* in the file */
    uint64_t block;  /* where the scan has its block begin: a place to scan from_block */
};

/* Called in file order. Each may be NULL; anything but 0 ends the scan, which returns it. */
struct avro_log_visitor {
    void *context;
    int (*record)(void *context, const struct avro_log_found *found);
    /* [first_seq, end_seq) is not in the file */
    int (*gap)(void *context, uint64_t first_seq, uint64_t end_seq);
    int (*fault)(void *context, uint64_t offset, const char *what);
};

/* What looks like a record and is none is tried up to a limit, which is the file's, not one scan's.
 * Bytes. */
struct avro_log_effort {
    uint64_t records, order, beyond;
};

struct avro_log_scan_options {
    /* A file that was being written: an unsealed block and zeros at its end are no fault. */
    bool open;
    /* Records from here on belong to a later file: the scan ends there. UINT64_MAX = no end. */
    uint64_t seq_end;
    /* Bytes from here on were never committed: as if the file ended there. 0 = no end. */
    uint64_t size_end;
    /* Where the first block to be read begins. 0 = behind the header. */
    uint64_t from_block;
    /* and the number that is due there, behind the last sound record before it. 0 = not known: the
     * scan begins as if there were none. */
    uint64_t from_seq;
    /* Where a file is scanned part by part, so that this finds what one scan finds. In: what the
     * parts before it took. Out: with this one; where a visitor ended it, up to the beginning of
     * the block that it was in. NULL: all of the limit is this scan's. */
    struct avro_log_effort *effort;
    /* A page that the disk can't read is passed over, as a fault; else the scan ends with -EIO. */
    bool skip_unreadable;
};

#endif
