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
};

/* Called in file order. Each may be NULL; anything but 0 ends the scan, which returns it. */
struct avro_log_visitor {
    void *context;
    int (*record)(void *context, const struct avro_log_found *found);
    /* [first_seq, end_seq) is not in the file */
    int (*gap)(void *context, uint64_t first_seq, uint64_t end_seq);
    int (*fault)(void *context, uint64_t offset, const char *what);
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
    /* A page that the disk can't read is passed over, as a fault; else the scan ends with -EIO. */
    bool skip_unreadable;
};

#endif
