/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* The log's container layout: Avro 1.11 Object Container File, codec null; holdfast-log.5 is its
 * specification.
 *
 *   file    header, then blocks:  [count: 5 bytes][size: 5 bytes][records: size bytes][sync: 16 bytes]
 *   header  "Obj" 0x01, metadata map, sync marker (16 random bytes, of this file only): avro_log_header.h
 *
 * Counts and sizes are padded varints of fixed width, so that sealing a block writes 10 + 16 bytes in
 * place and moves nothing. Write order of a block:
 *   1. open: count = size = 0   2. records, one after the other   3. sync after the last   4. count and size
 * A file being written therefore ends in an open block and preallocated zeros; it is called
 * .avro.open, and only sealing (truncate to the exact length, fsync, rename) makes it .avro. */
/* clang-format on */
#ifndef HOLDFAST_COMMON_AVRO_LOG_FORMAT_H
#define HOLDFAST_COMMON_AVRO_LOG_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/channel_spec.h"

#define AVRO_LOG_SYNC_SIZE         16
#define AVRO_LOG_PADDED_SIZE       5 /* a padded varint: zigzag values below 2^35 */
#define AVRO_LOG_BLOCK_HEADER_SIZE (2 * AVRO_LOG_PADDED_SIZE)
#define AVRO_LOG_BLOCK_SIZE        65536 /* a block is sealed when its records reach this many bytes */
#define AVRO_LOG_CRC_SIZE          4
/* Everything of a record but source and payload: seq, time, six ints of at most 5, crc. */
#define AVRO_LOG_RECORD_OVERHEAD 54
/* No record is shorter: eight numbers and the crc. */
#define AVRO_LOG_RECORD_LEAST 12
/* The longest encoded record. */
#define AVRO_LOG_RECORD_MAX                                                                        \
    (AVRO_LOG_RECORD_OVERHEAD + SOCKET_ADDRESS_TEXT_SIZE + CHANNEL_DATAGRAM_MAX)
/* The longest block, with its header and its sync marker. */
#define AVRO_LOG_BLOCK_MAX                                                                         \
    (AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_BLOCK_SIZE + AVRO_LOG_RECORD_MAX + AVRO_LOG_SYNC_SIZE)

/* No log gets there: a million datagrams a second for 146,000 years. A higher number is nobody's,
 * and none is to be counted on from. */
#define AVRO_LOG_SEQ_MAX (INT64_MAX / 2)

/* Bits of a record's flags; others are 0 and to be ignored. */
#define AVRO_LOG_QUARANTINED 1 /* it has killed workers: recorded, not relayed */
/* Nobody was receiving for a while before this record: what was sent between the times of its
 * neighbours may never have been seen. */
#define AVRO_LOG_NOT_COVERED 2

/* One record as values. source and payload point to memory of the caller (writing) or of the file
 * (reading). */
struct avro_log_record {
    int64_t seq;
    int64_t received_at_us;
    int32_t received_ns; /* 0..999 */
    const char *source;
    size_t source_length;
    int32_t lost_before;
    int32_t cut;
    int32_t flags;
    const uint8_t *payload;
    size_t payload_length;
    uint32_t crc32c;
};

/* Its kernel receive time; what is outside of what the wall clock can show is taken to its end. */
static inline uint64_t avro_log_record_time_ns(const struct avro_log_record *record)
{
    if (record->received_at_us < 0)
        return 0;
    if (record->received_at_us >= INT64_MAX / 1000)
        return INT64_MAX;
    return (uint64_t)record->received_at_us * 1000 + (uint64_t)record->received_ns;
}

void avro_log_write_block_header(uint8_t to[AVRO_LOG_BLOCK_HEADER_SIZE], uint64_t count,
                                 uint64_t size);
/* Two padded varints, as that writes them; nothing else is one. */
bool avro_log_read_block_header(const uint8_t *bytes, size_t size, uint64_t *ret_count,
                                uint64_t *ret_size);

/* Encoded length of a record, exact. */
size_t avro_log_record_size(const struct avro_log_record *record);

/* A record is written in two steps, so that the caller can copy the payload out of a ring that may
 * lap it and discard the attempt. First everything before the payload's bytes; returns where these
 * go. */
uint8_t *avro_log_write_record_head(uint8_t *to, const struct avro_log_record *record);
/* Then the CRC behind them, over [start, end). Returns the end of the record. */
uint8_t *avro_log_write_record_crc(uint8_t *start, uint8_t *end);

/* Read one record; nothing outside [from, from + size) is touched. Returns its encoded length, or
 * -EBADMSG with *ret_what: "truncated", "implausible ...", "crc". The CRC is verified. */
long avro_log_read_record(const uint8_t *from, size_t size, struct avro_log_record *ret,
                          const char **ret_what);

/* Avro's varints: zigzag, base 128, lowest first. read returns the length or -EBADMSG. */
size_t avro_log_write_long(uint8_t *to, int64_t value);
long avro_log_read_long(const uint8_t *from, size_t size, int64_t *ret);

uint32_t avro_log_crc32c(const uint8_t *from, size_t size);

#endif
