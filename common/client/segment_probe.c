/* SPDX-License-Identifier: MIT */
/* Finds a block by the sync marker before it. Called when a segment is searched for a number or a
 * time. A payload may hold markers, blocks and records, also those of this very file, when a log is
 * relayed: so a block is believed only when whole blocks follow it for longer than any payload is,
 * up to where the sealed ones end. */
#include "common/client/segment_probe.h"

#include <errno.h>
#include <string.h>

#include "common/client/segment_bytes.h"

#define PIECE ((size_t)64 * 1024)
/* Behind the place where one may begin: with its marker, no payload holds it all. */
#define BELIEVED ((uint64_t)CHANNEL_DATAGRAM_MAX)
#define OVERHEAD (AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_SYNC_SIZE)

/* Where the sealed block there ends, or 0. */
static uint64_t block_end(const struct segment_probe *probe, uint64_t block)
{
    uint8_t header[AVRO_LOG_BLOCK_HEADER_SIZE], sync[AVRO_LOG_SYNC_SIZE];
    uint64_t count, size;
    if (segment_bytes_read(probe->fd, block, header, sizeof header) != (long)sizeof header ||
        !avro_log_read_block_header(header, sizeof header, &count, &size) ||
        size > AVRO_LOG_BLOCK_MAX - OVERHEAD || size + OVERHEAD > probe->end - block)
        return 0;
    uint64_t end = block + AVRO_LOG_BLOCK_HEADER_SIZE + size;
    if (segment_bytes_read(probe->fd, end, sync, sizeof sync) != (long)sizeof sync ||
        memcmp(sync, probe->sync, sizeof sync) != 0)
        return 0;
    return end + AVRO_LOG_SYNC_SIZE;
}

static bool is_followed_by_blocks(const struct segment_probe *probe, uint64_t block)
{
    uint64_t end = block;
    while (end < probe->end && end - block < BELIEVED) {
        end = block_end(probe, end);
        if (end == 0)
            return false;
    }
    return true;
}

bool segment_probe_first(const struct segment_probe *probe, uint64_t block, uint64_t end,
                         struct segment_probed *ret)
{
    uint8_t *bytes = probe->bytes + PIECE;
    struct avro_log_record record;
    const char *what;
    const uint64_t at = block + AVRO_LOG_BLOCK_HEADER_SIZE;
    if (at >= end)
        return false;
    size_t size = end - at < AVRO_LOG_RECORD_MAX ? (size_t)(end - at) : AVRO_LOG_RECORD_MAX;
    long length = segment_bytes_read(probe->fd, at, bytes, size < 4096 ? size : 4096);
    if (length <= 0)
        return false;
    if (avro_log_read_record(bytes, (size_t)length, &record, &what) <= 0) {
        length = segment_bytes_read(probe->fd, at, bytes, size);
        if (length <= 0 || avro_log_read_record(bytes, (size_t)length, &record, &what) <= 0)
            return false;
    }
    *ret = (struct segment_probed){
        .block = block, .seq = (uint64_t)record.seq, .time_ns = avro_log_record_time_ns(&record)};
    return true;
}

_Static_assert(SEGMENT_PROBE_SIZE >= PIECE + AVRO_LOG_RECORD_MAX, "a piece and a record fit");

/* Behind one of the markers in a piece of the file. */
static bool find_in_piece(const struct segment_probe *probe, uint64_t offset, size_t size,
                          struct segment_probed *ret)
{
    const uint8_t *at = probe->bytes, *end = probe->bytes + size;
    while ((at = memmem(at, (size_t)(end - at), probe->sync, AVRO_LOG_SYNC_SIZE))) {
        at += AVRO_LOG_SYNC_SIZE;
        uint64_t block = offset + (uint64_t)(at - probe->bytes);
        uint64_t behind = block < probe->end ? block_end(probe, block) : 0;
        if (behind > 0 && is_followed_by_blocks(probe, block) &&
            segment_probe_first(probe, block, behind - AVRO_LOG_SYNC_SIZE, ret))
            return true;
    }
    return false;
}

int segment_probe_find(const struct segment_probe *probe, uint64_t from, uint64_t limit,
                       struct segment_probed *ret)
{
    while (from < limit && limit - from > AVRO_LOG_SYNC_SIZE) {
        size_t size = limit - from < PIECE ? (size_t)(limit - from) : PIECE;
        long length = segment_bytes_read(probe->fd, from, probe->bytes, size);
        if (length == -EIO)
            length = (long)size; /* what the disk can't read has no block that could be used */
        else if (length < 0)
            return (int)length;
        else if (find_in_piece(probe, from, (size_t)length, ret))
            return 1;
        if (length < AVRO_LOG_SYNC_SIZE)
            break;
        from += (uint64_t)length - (AVRO_LOG_SYNC_SIZE - 1);
    }
    return 0;
}
