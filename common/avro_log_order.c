/* SPDX-License-Identifier: MIT */
/* Judges a jump of the sequence numbers by what follows. Called by the scan where a block begins
 * with a higher number than the one before it ended with: as a rule, datagrams were not recorded
 * there, and all that follows is higher still. */
#include "common/avro_log_order.h"

#include <string.h>

#define BLOCKS_MAX 128

/* The first number of the sealed block there; false when there is none. *ret_size: of the block. */
static bool read_block(const uint8_t *bytes, size_t size, const uint8_t *sync, uint64_t *ret_seq,
                       size_t *ret_size)
{
    struct avro_log_record record = {0};
    uint64_t count, length;
    const char *what;
    const size_t overhead = AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_SYNC_SIZE;
    if (!avro_log_read_block_header(bytes, size, &count, &length) || size < overhead ||
        length == 0 || length > size - overhead ||
        memcmp(bytes + AVRO_LOG_BLOCK_HEADER_SIZE + length, sync, AVRO_LOG_SYNC_SIZE) != 0 ||
        avro_log_read_record(bytes + AVRO_LOG_BLOCK_HEADER_SIZE, length, &record, &what) <= 0)
        return false;
    *ret_seq = (uint64_t)record.seq;
    *ret_size = length + overhead;
    return true;
}

bool avro_log_order_is_broken(const uint8_t *behind, size_t size,
                              const uint8_t sync[AVRO_LOG_SYNC_SIZE], uint64_t least, uint64_t seq)
{
    int lower = 0, higher = 1; /* itself, and those that go with it */
    if (size > AVRO_LOG_ORDER_VIEW)
        size = AVRO_LOG_ORDER_VIEW;
    for (int block = 0; size > 0 && block < BLOCKS_MAX; block++) {
        uint64_t first;
        size_t length;
        if (read_block(behind, size, sync, &first, &length)) {
            lower += first >= least && first < seq;
            higher += first > seq && lower == 0;
        } else {
            const uint8_t *next = memmem(behind, size, sync, AVRO_LOG_SYNC_SIZE);
            length = next ? (size_t)(next - behind) + AVRO_LOG_SYNC_SIZE : size;
        }
        behind += length;
        size -= length;
    }
    return lower > higher;
}
