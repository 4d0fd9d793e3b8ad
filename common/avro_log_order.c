/* SPDX-License-Identifier: MIT */
/* Judges a jump of the sequence numbers by what follows. Called by the scan where a block begins
 * with a higher number than the one before it ended with: as a rule, datagrams were not recorded
 * there, and all that follows is higher still. */
#include "common/avro_log_order.h"

#include <string.h>

#define LOOKED_AT_MOST ((size_t)512 * 1024) /* some of the longest blocks */
#define BLOCKS_MAX     128

struct block {
    uint64_t first_seq;
    uint64_t count;
    size_t size;
};

/* The sealed block there; false when there is none. *ret_work: bytes that were summed up for it. */
static bool read_block(const uint8_t *bytes, size_t size, const uint8_t *sync, struct block *ret,
                       uint64_t *ret_work)
{
    struct avro_log_record record = {0};
    uint64_t length;
    const char *what;
    const size_t overhead = AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_SYNC_SIZE;
    *ret_work = 0;
    if (!avro_log_read_block_header(bytes, size, &ret->count, &length) || size < overhead ||
        length == 0 || length > size - overhead ||
        memcmp(bytes + AVRO_LOG_BLOCK_HEADER_SIZE + length, sync, AVRO_LOG_SYNC_SIZE) != 0)
        return false;
    long record_length =
        avro_log_read_record(bytes + AVRO_LOG_BLOCK_HEADER_SIZE, length, &record, &what);
    *ret_work = record.payload ? record.payload_length : 0;
    if (record_length <= 0)
        return false;
    ret->first_seq = (uint64_t)record.seq;
    ret->size = length + overhead;
    return true;
}

/* Records of the block that begins with seq, and of those that go with it, are `higher`. */
static bool is_broken(const uint8_t *behind, size_t size, const struct avro_log_order *order,
                      const struct block *own, struct avro_log_waste *waste)
{
    uint64_t lower = 0, higher = own->count;
    for (int i = 0; size > 0 && i < BLOCKS_MAX; i++) {
        struct block block;
        uint64_t work;
        bool is_block = read_block(behind, size, order->sync, &block, &work);
        waste->bytes += work;
        if (is_block) {
            if (block.first_seq == own->first_seq && lower > 0)
                return true; /* the one that it is a copy of */
            if (block.first_seq >= order->least && block.first_seq < own->first_seq)
                lower += block.count;
            else if (block.first_seq > own->first_seq && lower == 0)
                higher += block.count;
        } else {
            const uint8_t *next = memmem(behind, size, order->sync, AVRO_LOG_SYNC_SIZE);
            block.size = next ? (size_t)(next - behind) + AVRO_LOG_SYNC_SIZE : size;
        }
        behind += block.size;
        size -= block.size;
    }
    return lower > higher;
}

/* Is its first record sound, and one that could be later? Most blocks end here. */
static bool begins_higher(const struct avro_log_order *order, struct avro_log_window *window,
                          struct avro_log_waste *waste, uint64_t *ret_seq)
{
    const uint64_t at = order->offset + AVRO_LOG_BLOCK_HEADER_SIZE;
    struct avro_log_record record = {0};
    const char *what;
    size_t size;
    int64_t seq;
    const uint8_t *bytes = avro_log_window_view(window, at, AVRO_LOG_RECORD_LEAST, &size);
    if (avro_log_read_long(bytes, size, &seq) <= 0 || seq < 0 || (uint64_t)seq <= order->least ||
        at >= order->limit || waste->bytes > waste->most)
        return false;
    uint64_t most =
        order->limit - at < AVRO_LOG_RECORD_MAX ? order->limit - at : AVRO_LOG_RECORD_MAX;
    bytes = avro_log_window_view(window, at, most, &size);
    *ret_seq = (uint64_t)seq;
    if (avro_log_read_record(bytes, size < most ? size : (size_t)most, &record, &what) > 0)
        return true;
    waste->bytes += record.payload ? record.payload_length : 0;
    return false;
}

bool avro_log_order_is_broken(const struct avro_log_order *order, struct avro_log_window *window,
                              struct avro_log_waste *waste)
{
    struct block own;
    uint64_t length;
    size_t size;
    if (!begins_higher(order, window, waste, &own.first_seq))
        return false;
    size_t before = (size_t)(order->behind - order->offset);
    const uint8_t *bytes =
        avro_log_window_view(window, order->offset, before + LOOKED_AT_MOST, &size);
    if (size <= before)
        return false;
    if (!avro_log_read_block_header(bytes, size, &own.count, &length))
        own.count = 1; /* the header alone is damaged */
    size -= before;
    return is_broken(bytes + before, size < LOOKED_AT_MOST ? size : LOOKED_AT_MOST, order, &own,
                     waste);
}
