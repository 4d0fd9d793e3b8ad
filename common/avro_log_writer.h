/* SPDX-License-Identifier: MIT */
/* Writes a sealed log file from encoded records: what is copied out of damaged files, and what is
 * exported. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_WRITER_H
#define HOLDFAST_COMMON_AVRO_LOG_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"

struct avro_log_writer {
    int to_fd; /* the caller's: an empty file */
    uint8_t sync[AVRO_LOG_SYNC_SIZE];
    uint8_t *block;
    size_t length; /* bytes of records in block, behind the room for its header */
    uint64_t count;
    uint64_t next_seq;
    uint64_t written; /* bytes of the file */
    bool begun;       /* it has a header */
};

/* 0 or -ENOMEM. To be freed in every case. */
int avro_log_writer_init(struct avro_log_writer *writer, int to_fd);
void avro_log_writer_free(struct avro_log_writer *writer);

/* The header, with a sync marker of its own; identity->sync is not looked at. 0 or -errno, as
 * below. */
int avro_log_writer_begin(struct avro_log_writer *writer, const struct avro_log_identity *identity);
/* One encoded record: a block ends at 64 KiB and at every gap. */
int avro_log_writer_add(struct avro_log_writer *writer, const uint8_t *record, size_t length,
                        uint64_t seq);
/* The last block. The header's totals are the caller's to write. */
int avro_log_writer_end(struct avro_log_writer *writer);

#endif
