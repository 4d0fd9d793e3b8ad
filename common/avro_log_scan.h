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
 *                  the records; a damaged record whose length is still known costs that record only
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
#include "common/avro_log_header.h"

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

struct avro_log_block {
    uint64_t offset; /* of its header */
    uint64_t count;  /* sound records */
    uint64_t size;   /* bytes from the first record to the end of the last sound one */
    bool sealed;
};

struct avro_log_summary {
    struct avro_log_identity identity;
    bool has_header; /* false: identity.sync alone was found out, or not even that */
    uint64_t file_size;
    uint64_t header_size; /* where the first block begins */
    uint64_t blocks;      /* that hold a sound record */
    uint64_t records;
    uint64_t first_seq, last_seq;                /* of the records, when there is one */
    int64_t first_received_us, last_received_us; /* of the first and the last record */
    uint64_t earliest_ns, latest_ns;             /* the smallest and the largest receive time */
    uint64_t payload_bytes;
    uint64_t gaps, missing; /* ranges, and numbers in them; counted from identity.first_seq on */
    uint64_t lost_before;   /* datagrams that the kernel dropped */
    uint64_t quarantined;
    uint64_t not_covered; /* records before which nobody was receiving */
    uint64_t cut, cut_bytes;
    uint64_t faults;
    uint64_t fault_offset; /* of the first one */
    const char *fault_what;
    uint64_t records_after_fault; /* 0: everything sound lies in one piece before the first fault */
    /* What the walk cost: bytes read, and bytes of what looked like a record and was none. */
    uint64_t bytes_read, bytes_wasted;
    uint64_t unreadable_pages;        /* with skip_unreadable */
    struct avro_log_block last_block; /* the last block that holds a sound record */
};

struct avro_log_scan_options {
    /* A file that was being written: an unsealed block and zeros at its end are no fault. */
    bool open;
    /* Records from here on belong to a later file: the scan ends there. UINT64_MAX = no end. */
    uint64_t seq_end;
    /* Bytes from here on were never committed: as if the file ended there. 0 = no end. */
    uint64_t size_end;
    /* A page that the disk can't read is passed over, as a fault; else the scan ends with -EIO. */
    bool skip_unreadable;
};

/* 0 also when there are faults: they are in *ret. Else -errno of a read, -ENOMEM, or what a visitor
 * returned. The descriptor's file offset is moved. visitor may be NULL. */
int avro_log_scan(int fd, const struct avro_log_scan_options *options,
                  const struct avro_log_visitor *visitor, struct avro_log_summary *ret);

/* What the header of this file should say once it is sealed. latest_before_ns: the largest receive
 * time of the log before this file, 0 if it isn't known. There must be a record. */
void avro_log_totals_of(const struct avro_log_summary *summary, uint64_t latest_before_ns,
                        struct avro_log_totals *ret);

/* Is there nothing but zeros in it, as in a segment that was made and not begun? 1, 0 or -errno. */
int avro_log_is_blank(int fd);

/* The last sequence number of a sealed file, from its last block alone where that is sound.
 * 1 = *ret_seq is set, 0 = the file holds no sound record, or -errno. */
int avro_log_last_seq(int fd, uint64_t *ret_seq);

#endif
