/* SPDX-License-Identifier: MIT */
/* What a scan found in a log file, as numbers. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_SUMMARY_H
#define HOLDFAST_COMMON_AVRO_LOG_SUMMARY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"

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

/* Where its last sound record ends. */
static inline uint64_t avro_log_block_end(const struct avro_log_block *block)
{
    return block->offset + AVRO_LOG_BLOCK_HEADER_SIZE + block->size;
}

/* The least number that may follow what was found so far; `unknown` before the first record of a
 * file without header. */
uint64_t avro_log_summary_next(const struct avro_log_summary *summary, uint64_t unknown);

/* The last number that is in it, or that it had before it was damaged, as its header says. There
 * must be a record. */
uint64_t avro_log_summary_last(const struct avro_log_summary *summary);

/* One more sound record. */
void avro_log_summary_count(struct avro_log_summary *summary, const struct avro_log_record *record);

/* What the header of this file should say once it is sealed. latest_before_ns: the largest receive
 * time of the log before this file, 0 if it isn't known. There must be a record. */
void avro_log_totals_of(const struct avro_log_summary *summary, uint64_t latest_before_ns,
                        struct avro_log_totals *ret);

#endif
