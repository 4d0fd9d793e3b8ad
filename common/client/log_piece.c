/* SPDX-License-Identifier: MIT */
/* Finds the blocks of a range by bisection, and then by their headers. Called by the library for
 * files, and by the gate's threads. Must never leave out a block that may have one of the records:
 * what can't be told apart is taken along. */
#include "common/client/log_piece.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/client/segment_bytes.h"
#include "common/client/segment_probe.h"
#include "common/client/segment_search.h"

#define OVERHEAD ((uint64_t)AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_SYNC_SIZE)

struct block {
    uint64_t begin, end; /* its marker included */
    uint64_t first_seq, last_seq;
};

/* false: that isn't a sound, finished block. */
static bool read_block(const struct segment_probe *probe, uint64_t at, struct block *ret)
{
    uint8_t header[AVRO_LOG_BLOCK_HEADER_SIZE], sync[AVRO_LOG_SYNC_SIZE];
    struct segment_probed first;
    uint64_t count, size;
    if (segment_bytes_read(probe->fd, at, header, sizeof header) != (long)sizeof header ||
        !avro_log_read_block_header(header, sizeof header, &count, &size) || count == 0 ||
        count > size || size > AVRO_LOG_BLOCK_MAX - OVERHEAD || size + OVERHEAD > probe->end - at)
        return false;
    const uint64_t marker = at + AVRO_LOG_BLOCK_HEADER_SIZE + size;
    if (segment_bytes_read(probe->fd, marker, sync, sizeof sync) != (long)sizeof sync ||
        memcmp(sync, probe->sync, sizeof sync) != 0 ||
        !segment_probe_first(probe, at, marker, &first))
        return false;
    /* Inside a block, each number is one more than the one before. */
    *ret = (struct block){.begin = at,
                          .end = marker + AVRO_LOG_SYNC_SIZE,
                          .first_seq = first.seq,
                          .last_seq = first.seq + (count - 1)};
    return true;
}

/* From the block `at` on, the first that is not before seq, or that nothing sure can be said of. 1,
 * 0: there is none before the end. *ret_place: where it begins, or the end. */
static int find_from(const struct segment_probe *probe, uint64_t at, uint64_t seq,
                     uint64_t *ret_place, struct block *ret)
{
    for (*ret_place = at; at < probe->end; *ret_place = at = ret->end) {
        if (!read_block(probe, at, ret)) {
            *ret = (struct block){.begin = at};
            return 1;
        }
        if (ret->last_seq >= seq)
            return 1;
    }
    return 0;
}

/* From the first block on: up to where one begins with a higher number than the last that is
 * wanted. */
static void find_end(const struct segment_probe *probe, uint64_t at, uint64_t last,
                     bool is_unfinished, struct log_piece *ret)
{
    struct block block;
    while (at < probe->end && read_block(probe, at, &block)) {
        if (block.first_seq > last) {
            ret->length = at - ret->offset;
            return;
        }
        ret->last_seq = block.last_seq;
        at = block.end;
    }
    ret->length = (is_unfinished ? at : probe->end) - ret->offset;
}

/* Its place is *ret->offset from then on. */
static int find_begin(const struct segment_probe *probe, uint64_t at, uint64_t first, uint64_t last,
                      struct log_piece *ret)
{
    struct block block;
    if (find_from(probe, at, first, &ret->offset, &block) == 0 ||
        (block.end && block.first_seq > last))
        return -ENOENT;
    ret->first_seq = block.end ? block.first_seq : first;
    ret->last_seq = block.end ? block.last_seq : last;
    return 0;
}

static int find(const struct segment_range *range, uint8_t *bytes, bool is_unfinished,
                const uint64_t wanted[2], struct log_piece *ret)
{
    const struct segment_probe probe = {
        .fd = range->fd, .end = range->sealed_end, .sync = range->sync, .bytes = bytes};
    struct segment_place near_first = {0}, near_last = {0};
    int result = segment_search(range, SEGMENT_BY_SEQ, wanted[0], &near_first);
    if (result == 0)
        result = segment_search(range, SEGMENT_BY_SEQ, wanted[1], &near_last);
    if (result == 0)
        result = find_begin(&probe, near_first.block, wanted[0], wanted[1], ret);
    if (result < 0)
        return result;
    find_end(&probe, near_last.block > ret->offset ? near_last.block : ret->offset, wanted[1],
             is_unfinished, ret);
    return ret->length > 0 ? 0 : -ENOENT;
}

/* Where its finished blocks end, as far as its limit tells. */
static int find_limit(const struct log_range_file *file, uint64_t *ret)
{
    struct stat status;
    if (fstat(file->fd, &status) < 0)
        return -errno;
    *ret = (uint64_t)status.st_size;
    if (file->limit.open_block < *ret)
        *ret = file->limit.open_block;
    else if (file->limit.end < *ret)
        *ret = file->limit.end;
    return 0;
}

int log_piece_find(const struct log_range_file *file, uint64_t first, uint64_t last,
                   struct log_piece *ret)
{
    struct avro_log_identity identity;
    uint64_t end = 0;
    const char *what;
    *ret = (struct log_piece){0};
    long header = avro_log_load_header(file->fd, &identity, &what);
    int result = header < 0 ? (int)header : find_limit(file, &end);
    if (result < 0)
        return result;
    ret->header_length = (uint64_t)header;
    if (end <= ret->header_length)
        return -ENOENT;
    const struct segment_range range = {.fd = file->fd,
                                        .sync = identity.sync,
                                        .first_block = ret->header_length,
                                        .sealed_end = end,
                                        .open_block = UINT64_MAX,
                                        .end = end};
    const uint64_t wanted[2] = {first, last < file->limit.seq_end ? last : file->limit.seq_end - 1};
    uint8_t *bytes = wanted[0] <= wanted[1] ? malloc(SEGMENT_PROBE_SIZE) : NULL;
    if (!bytes)
        return wanted[0] <= wanted[1] ? -ENOMEM : -ENOENT;
    result = find(&range, bytes, file->is_unfinished, wanted, ret);
    free(bytes);
    return result;
}
