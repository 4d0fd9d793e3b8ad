/* SPDX-License-Identifier: MIT */
/* Looks at the ends of log files, which may be gigabytes long, and of which most may never have
 * been written. Used by the archive and by holdfastctl. What is answered from a part of a file must
 * never differ from what a scan of all of it would say. */
#include "common/avro_log_end.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_beyond.h"
#include "common/avro_log_format.h"
#include "common/avro_log_guess.h"
#include "common/avro_log_header.h"
#include "common/avro_log_summary.h"
#include "common/avro_log_window.h"

int avro_log_is_blank(int fd)
{
    uint8_t buffer[16 * 1024];
    for (off_t at = 0;;) {
        off_t data = lseek(fd, at, SEEK_DATA); /* skips what was preallocated and never written */
        if (data < 0 && errno == ENXIO)
            return 1;
        at = data > at ? data : at;
        ssize_t n = pread(fd, buffer, sizeof buffer, at);
        if (n <= 0)
            return n < 0 ? -errno : 1;
        for (ssize_t i = 0; i < n; i++)
            if (buffer[i])
                return 0;
        at += n;
    }
}

/* ---- the last block ---- */

/* Where the last block but one begins, behind a sync marker: what the last one is worth shows only
 * beside another. The last one's place where there is no other; 0 if that can't be told from the
 * file's end. */
static uint64_t find_last_blocks(struct avro_log_window *window, uint64_t header_size,
                                 const uint8_t *sync)
{
    uint64_t from = window->file_size > window->size ? window->file_size - window->size : 0;
    if (from < header_size - AVRO_LOG_SYNC_SIZE)
        from = header_size - AVRO_LOG_SYNC_SIZE;
    uint64_t last = 0, before = 0, next = from;
    if (window->file_size < header_size + AVRO_LOG_SYNC_SIZE ||
        !avro_log_window_has(window, window->file_size - AVRO_LOG_SYNC_SIZE, sync,
                             AVRO_LOG_SYNC_SIZE))
        return 0;
    while ((next = avro_log_window_find(window, next, sync, AVRO_LOG_SYNC_SIZE)) <
           window->file_size) {
        before = last;
        last = next;
    }
    return window->error ? 0 : before > 0 ? before : last;
}

/* The same by a descriptor. 0 also when something fails: all of it is read then, and tells. */
static uint64_t last_blocks_of(int fd)
{
    struct avro_log_identity identity;
    struct stat status;
    const char *what;
    long length = avro_log_load_header(fd, &identity, &what);
    if (length <= 0 || fstat(fd, &status) < 0)
        return 0;
    struct avro_log_window window = {.fd = fd, .file_size = (uint64_t)status.st_size};
    if (!avro_log_window_open(&window))
        return 0;
    uint64_t block = find_last_blocks(&window, (uint64_t)length, identity.sync);
    avro_log_window_close(&window);
    return block;
}

int avro_log_look_at_end(int fd, struct avro_log_summary *ret)
{
    struct avro_log_scan_options options = {.seq_end = UINT64_MAX,
                                            .from_block = last_blocks_of(fd)};
    int result = options.from_block > 0 ? avro_log_scan(fd, &options, NULL, ret) : 0;
    if (options.from_block > 0 && result == 0 && ret->records > 0 && ret->faults == 0)
        return 0;
    options.from_block = 0;
    return avro_log_scan(fd, &options, NULL, ret);
}

int avro_log_find_last(int fd, struct avro_log_last *ret)
{
    struct avro_log_identity identity;
    struct avro_log_summary summary;
    const char *what;
    *ret = (struct avro_log_last){.in_header = avro_log_load_header(fd, &identity, &what) > 0 &&
                                               identity.has_totals};
    if (ret->in_header)
        ret->seq = identity.totals.last_seq;
    ret->found = ret->in_header;
    int result = avro_log_look_at_end(fd, &summary);
    if (result < 0)
        return result;
    ret->damaged = summary.faults > 0;
    ret->found |= summary.records > 0;
    if (summary.records > 0 && summary.last_seq > ret->seq)
        ret->seq = summary.last_seq;
    return 0;
}

/* ---- what lies behind it ---- */

uint64_t avro_log_promised_more(int fd, const struct avro_log_summary *summary, uint64_t *ret_end)
{
    const struct avro_log_block *block = &summary->last_block;
    uint8_t header[AVRO_LOG_BLOCK_HEADER_SIZE];
    uint64_t count, size;
    if (summary->records == 0 ||
        pread(fd, header, sizeof header, (off_t)block->offset) != (ssize_t)sizeof header ||
        !avro_log_read_block_header(header, sizeof header, &count, &size) ||
        size > AVRO_LOG_BLOCK_MAX || count > size / AVRO_LOG_RECORD_LEAST || count <= block->count)
        return 0;
    *ret_end = block->offset + sizeof header + size + AVRO_LOG_SYNC_SIZE + sizeof header;
    return count - block->count;
}

/* The place of the next record, from behind the last sound one. */
static uint64_t pass_seal(const struct avro_log_summary *summary, const uint8_t *bytes,
                          uint64_t size)
{
    const uint64_t both = AVRO_LOG_SYNC_SIZE + AVRO_LOG_BLOCK_HEADER_SIZE;
    uint64_t known = size < AVRO_LOG_SYNC_SIZE ? size : AVRO_LOG_SYNC_SIZE;
    if (summary->records == 0)
        return size < AVRO_LOG_BLOCK_HEADER_SIZE ? size : AVRO_LOG_BLOCK_HEADER_SIZE;
    if (memcmp(bytes, summary->identity.sync, known) != 0)
        return 0;
    return size < both ? size : both;
}

/* Could a recorder have been about to write it there? */
static bool is_due(const struct avro_log_summary *summary, uint64_t seq, bool in_block)
{
    const uint64_t due = avro_log_summary_next(summary, 0);
    return in_block && summary->records > 0 ? seq == due : seq >= due && seq <= AVRO_LOG_SEQ_MAX;
}

/* What lies behind the last sound record, as far as a recorder may have written at once. */
struct rest {
    int fd;
    const struct avro_log_summary *summary;
    uint64_t at;
    uint8_t *bytes;
    uint64_t size;
};

/* 0 or -errno; bytes are the caller's to free. */
static int read_rest(struct rest *rest, uint64_t end)
{
    const uint64_t longest =
        AVRO_LOG_SYNC_SIZE + AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_RECORD_MAX + 1;
    rest->at = rest->summary->header_size;
    if (rest->summary->records > 0)
        rest->at = avro_log_block_end(&rest->summary->last_block);
    rest->size = end <= rest->at ? 0 : end - rest->at < longest ? end - rest->at : longest;
    rest->bytes = malloc(rest->size + 1);
    if (!rest->bytes)
        return -ENOMEM;
    ssize_t n = pread(rest->fd, rest->bytes, rest->size, (off_t)rest->at);
    if (n < 0)
        return -errno;
    if ((uint64_t)n < rest->size)
        rest->size = 0; /* somebody has cut it off */
    return 0;
}

/* A record's length may be what is wrong with it: are others inside? */
static bool hides_records(const struct rest *rest, uint64_t at, bool in_block)
{
    const struct avro_log_beyond beyond = {.at = rest->at + at,
                                           .limit = rest->at + rest->size,
                                           .due = avro_log_summary_next(rest->summary, 0),
                                           .exact = in_block && rest->summary->records > 0,
                                           .in_payload = true,
                                           .sync = rest->summary->identity.sync};
    struct avro_log_window window = {.fd = rest->fd, .file_size = beyond.limit};
    struct avro_log_waste waste = {.most = avro_log_waste_most(beyond.limit)};
    uint64_t found_at, seq;
    if (!avro_log_window_open(&window))
        return false;
    bool found = avro_log_find_beyond(&beyond, &window, &waste, &found_at, &seq);
    avro_log_window_close(&window);
    return found;
}

/* A record that was being written and then zeros, or older records. */
static bool is_of_killed_recorder(const struct rest *rest)
{
    struct avro_log_record record = {0};
    const char *what;
    const uint64_t at = pass_seal(rest->summary, rest->bytes, rest->size);
    const uint8_t *bytes = rest->bytes + at;
    const uint64_t size = rest->size - at;
    if (size < AVRO_LOG_RECORD_OVERHEAD + SOCKET_ADDRESS_TEXT_SIZE)
        return true; /* not even its head is whole */
    if (avro_log_read_record(bytes, size, &record, &what) > 0)
        return true;
    if (record.payload_length == 0 || !is_due(rest->summary, (uint64_t)record.seq, at == 0))
        return false;
    /* Its payload ends where nothing is written any more, or behind that. */
    return (!record.payload ||
            (uint64_t)(record.payload - bytes) + record.payload_length + AVRO_LOG_CRC_SIZE >=
                size) &&
           !hides_records(rest, at, at == 0);
}

/* It is known how far the records went: behind the last one, there is a marker and the next block's
 * header at most, or what another file has. */
static bool is_whole(const struct rest *rest, uint64_t seq_end)
{
    struct avro_log_record record = {0};
    const char *what;
    const uint64_t at = pass_seal(rest->summary, rest->bytes, rest->size);
    return at == rest->size ||
           (avro_log_read_record(rest->bytes + at, rest->size - at, &record, &what) > 0 &&
            (uint64_t)record.seq >= seq_end);
}

int avro_log_lacks_end(int fd, const struct avro_log_scan_options *options,
                       const struct avro_log_summary *summary)
{
    /* A length from memory that a dead worker has left may be any. */
    const bool known = options->size_end > 0 && options->size_end <= summary->file_size;
    struct rest rest = {.fd = fd, .summary = summary};
    uint64_t end = options->size_end, promised_end;
    int result = known ? 0 : avro_log_window_extent(fd, &end);
    if (result < 0)
        return result;
    if (!known && avro_log_promised_more(fd, summary, &promised_end) > 0)
        return 1;
    result = read_rest(&rest, end);
    if (result == 0)
        result = known ? !is_whole(&rest, options->seq_end) : !is_of_killed_recorder(&rest);
    free(rest.bytes);
    return result;
}
