/* SPDX-License-Identifier: MIT */
/* Any damage to a log file. The input is a list of edits of a sound file (position, length, bytes);
 * its first byte says how the file is read. The scan must end, agree with itself, and pass on only
 * records that the file did hold; a copy of what is sound must be without fault and hold as many.
 */
#include "common/avro_log_copy.h"
#include "common/avro_log_end.h"
#include "common/avro_log_header.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_SIZE    8192
#define BLOCKS       5
#define PER_BLOCK    6
#define FIRST_SEQ    1000
#define PAYLOAD(seq) ((uint8_t)((seq)*37 + 11))

static void require(int truth)
{
    if (!truth)
        abort();
}

static uint8_t *put_record(uint8_t *to, int64_t seq)
{
    uint8_t payload[20];
    memset(payload, PAYLOAD(seq), sizeof payload);
    const struct avro_log_record record = {.seq = seq,
                                           .received_at_us = 1,
                                           .source = "[::1]:1",
                                           .source_length = 7,
                                           .payload = payload,
                                           .payload_length = sizeof payload};
    uint8_t *at = avro_log_write_record_head(to, &record);
    memcpy(at, payload, sizeof payload);
    return avro_log_write_record_crc(to, at + sizeof payload);
}

/* The last block is open. Returns where it ends. */
static size_t make_file(uint8_t *bytes)
{
    struct avro_log_identity identity = {
        .channel = "fuzz", .first_seq = FIRST_SEQ, .sync = "0123456789abcde"};
    uint8_t *at = bytes + avro_log_write_header(bytes, &identity);
    int64_t seq = FIRST_SEQ;
    for (int block = 0; block < BLOCKS; block++) {
        uint8_t *header = at;
        at += AVRO_LOG_BLOCK_HEADER_SIZE;
        for (int i = 0; i < PER_BLOCK; i++)
            at = put_record(at, seq++);
        bool open = block == BLOCKS - 1;
        size_t size = (size_t)(at - header) - AVRO_LOG_BLOCK_HEADER_SIZE;
        avro_log_write_block_header(header, open ? 0 : PER_BLOCK, open ? 0 : size);
        if (!open)
            memcpy(at, identity.sync, AVRO_LOG_SYNC_SIZE);
        at += open ? 0 : AVRO_LOG_SYNC_SIZE;
    }
    return (size_t)(at - bytes);
}

static int check_record(void *context, const struct avro_log_found *found)
{
    const struct avro_log_record *record = &found->record;
    uint64_t *next = context;
    require(record->seq >= 0 && (uint64_t)record->seq >= *next);
    *next = (uint64_t)record->seq + 1;
    require(found->length == avro_log_record_size(record));
    return 0;
}

static void scan(int fd, const struct avro_log_scan_options *options, struct avro_log_summary *ret)
{
    uint64_t next = 0;
    const struct avro_log_visitor visitor = {.context = &next, .record = check_record};
    require(avro_log_scan(fd, options, &visitor, ret) == 0);
    require(ret->records == 0 || ret->last_seq + 1 == next);
    require(ret->records_after_fault <= ret->records);
    require(ret->last_block.offset + ret->last_block.size <= ret->file_size);
}

static void check_copy(int fd, const struct avro_log_scan_options *options, uint64_t records)
{
    const struct avro_log_scan_options sealed = {.seq_end = UINT64_MAX};
    struct avro_log_copy copy = {.from_fd = fd, .options = *options, .channel = "fuzz"};
    struct avro_log_summary summary;
    copy.to_fd = memfd_create("copy", MFD_CLOEXEC);
    require(copy.to_fd >= 0 && avro_log_copy(&copy, &summary) == 0);
    if (records > 0) {
        scan(copy.to_fd, &sealed, &summary);
        require(summary.faults == 0 && summary.records == records);
    }
    close(copy.to_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[FILE_SIZE];
    struct avro_log_summary summary;
    if (size < 1)
        return 0;
    memset(bytes, 0, sizeof bytes);
    size_t end = make_file(bytes);
    const struct avro_log_scan_options options = {.open = data[0] & 1, .seq_end = UINT64_MAX};
    size_t length = data[0] & 2 ? FILE_SIZE : end;
    for (size_t at = 1; at + 3 <= size;) { /* an edit: position (2), length (1), bytes */
        size_t where = ((size_t)data[at] << 8 | data[at + 1]) % FILE_SIZE, count = data[at + 2];
        at += 3;
        for (; count > 0 && at < size && where < FILE_SIZE; count--)
            bytes[where++] = data[at++];
    }
    int fd = memfd_create("log", MFD_CLOEXEC);
    require(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    scan(fd, &options, &summary);
    check_copy(fd, &options, summary.records);
    require(avro_log_look_at_end(fd, &summary) == 0);
    close(fd);
    return 0;
}
