/* SPDX-License-Identifier: MIT */
/* Walks through the files that have a range's records, and writes these anew, block by block, into
 * memory: so what comes out is a log file of exactly those records, whatever lies around them, with
 * one header and one marker. Called by the library for files, and by the gate's threads. A record
 * whose CRC wasn't right when it was read never gets into it; what is missing is missing, and its
 * neighbours' numbers say so. */
#include "common/client/log_range.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/fd.h"

struct log_range {
    struct log_range_source source;
    uint64_t next, last; /* what is still wanted: [next, last] */
    struct segment_walk *walk;
    int fd;                        /* the walk's */
    uint64_t file_first;           /* of that file, by its name */
    bool at_end;                   /* there are no more records */
    bool has_record;               /* `record` was read, and is not written yet */
    struct avro_log_record record; /* in the walk's memory */
    uint8_t sync[AVRO_LOG_SYNC_SIZE];
    struct log_range_told told;
    uint8_t *bytes;
    size_t size;
};

#define BYTES_SIZE (AVRO_LOG_HEADER_MAX + AVRO_LOG_BLOCK_MAX)

/* ---- records ---- */

static int open_file(struct log_range *range, bool behind, uint64_t seq)
{
    struct log_range_file file = {.fd = -1};
    const char *what;
    range->walk = segment_walk_close(range->walk);
    int result = range->source.open(range->source.context, behind, seq, &file);
    if (result < 0)
        return result;
    if (behind && file.first_seq > range->last) {
        fd_close(&file.fd);
        return -ENOENT;
    }
    range->fd = file.fd;
    range->file_first = file.first_seq;
    result = segment_walk_open(file.fd, file.is_unfinished, &range->walk, &what);
    if (result < 0)
        return result;
    segment_walk_set_limit(range->walk, &file.limit);
    return segment_walk_seek_seq(range->walk, range->next);
}

/* What is removed may have holes: then what is behind them is not missing. */
static int go_to_next_file(struct log_range *range)
{
    if (fd_is_removed(range->fd))
        return -ESTALE;
    return open_file(range, true, range->file_first);
}

/* 1: there is another one, 0: there is none; or -errno. */
static int read_record(struct log_range *range)
{
    while (!range->has_record && !range->at_end) {
        int result = segment_walk_next(range->walk, range->next, &range->record);
        if (result == WALK_RECORD) {
            range->has_record = (uint64_t)range->record.seq <= range->last;
            range->at_end = !range->has_record;
            continue;
        }
        if (result == WALK_END)
            result = go_to_next_file(range);
        if (result == -ENOENT)
            range->at_end = true;
        else if (result < 0)
            return result;
    }
    return range->has_record;
}

/* ---- blocks ---- */

static void write_header(struct log_range *range)
{
    struct avro_log_identity identity = *segment_walk_identity(range->walk);
    memcpy(range->sync, identity.sync, sizeof range->sync);
    identity.first_seq = (uint64_t)range->record.seq;
    range->size = avro_log_write_header(range->bytes, &identity);
}

static uint8_t *write_record(struct log_range *range, uint8_t *to)
{
    const struct avro_log_record *record = &range->record;
    const uint64_t seq = (uint64_t)record->seq;
    uint8_t *payload = avro_log_write_record_head(to, record);
    memcpy(payload, record->payload, record->payload_length);
    if (range->told.records++ == 0)
        range->told.first_seq = seq;
    range->told.last_seq = seq;
    range->next = seq + 1;
    range->at_end = seq == range->last;
    range->has_record = false;
    return avro_log_write_record_crc(to, payload + record->payload_length);
}

/* Behind what is in memory. A block ends at 64 KiB, and at every gap, as the recorder's do. */
static int write_block(struct log_range *range)
{
    uint8_t *header = range->bytes + range->size;
    uint8_t *records = header + AVRO_LOG_BLOCK_HEADER_SIZE, *at = records;
    uint64_t count = 0;
    int result;
    while ((result = read_record(range)) > 0) {
        if ((count > 0 && (uint64_t)range->record.seq != range->next) ||
            at - records >= AVRO_LOG_BLOCK_SIZE)
            break;
        at = write_record(range, at);
        count++;
    }
    if (result < 0)
        return result;
    if (count == 0)
        return 0;
    avro_log_write_block_header(header, count, (uint64_t)(at - records));
    memcpy(at, range->sync, AVRO_LOG_SYNC_SIZE);
    range->size = (size_t)(at - range->bytes) + AVRO_LOG_SYNC_SIZE;
    return 0;
}

/* ---- the range ---- */

static int begin(struct log_range *range)
{
    int result = range->bytes ? open_file(range, false, range->next) : -ENOMEM;
    if (result == 0)
        result = read_record(range);
    if (result < 0)
        return result;
    if (result == 0)
        return -ENOENT;
    write_header(range);
    return 0;
}

int log_range_open(const struct log_range_source *source, uint64_t first, uint64_t last,
                   struct log_range **ret)
{
    *ret = NULL;
    struct log_range *range = calloc(1, sizeof *range);
    if (!range)
        return -ENOMEM;
    range->source = *source;
    range->next = first;
    range->last = last;
    range->bytes = malloc(BYTES_SIZE);
    int result = begin(range);
    if (result < 0) {
        log_range_close(range);
        return result;
    }
    *ret = range;
    return 0;
}

struct log_range *log_range_close(struct log_range *range)
{
    if (!range)
        return NULL;
    segment_walk_close(range->walk);
    free(range->bytes);
    free(range);
    return NULL;
}

long log_range_read(struct log_range *range, const uint8_t **ret)
{
    int result = write_block(range);
    const size_t size = range->size;
    *ret = range->bytes;
    range->size = 0;
    return result < 0 ? result : (long)size;
}

const struct log_range_told *log_range_so_far(const struct log_range *range)
{
    return &range->told;
}
