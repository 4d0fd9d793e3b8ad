/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* Walks a log file with pread(2) and believes nothing in it: the one reader behind verify, recover
 * and the archive.
 *
 * A record is sound when its lengths lie inside its block, its CRC is right and its sequence number
 * grows: by exactly one inside a block (the recorder seals a block at every gap), by one or more from
 * block to block.
 *
 *   block          is walked
 *   sealed         sync marker at the place that its header promises: count and size are held against
 *                  the records; a damaged record whose length is still known costs that record only,
 *                  and so do records with numbers that are not this block's
 *   open           header all zero or damaged, or the promised place holds no sync marker (a killed
 *                  recorder's successor overwrites the marker of a block whose seal was not committed):
 *                  record by record, up to a sync marker or the first bytes that are no sound record
 *   anything else  the next sync marker is searched; the scan goes on behind it */
/* clang-format on */
#ifndef HOLDFAST_COMMON_AVRO_LOG_SCAN_H
#define HOLDFAST_COMMON_AVRO_LOG_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "common/avro_log_summary.h"

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

/* 0 also when there are faults: they are in *ret. Else -errno of a read, -ENOMEM, or what a visitor
 * returned. The descriptor's file offset is moved. visitor may be NULL. */
int avro_log_scan(int fd, const struct avro_log_scan_options *options,
                  const struct avro_log_visitor *visitor, struct avro_log_summary *ret);

#endif
