/* SPDX-License-Identifier: MIT */
/* Encodes pieces of a log for append_write and append_uring: byte for byte what the map backends
 * have in their file. */
#include "tests/bench/append_blocks.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/fd.h"
#include "tests/bench/support.h"

static const uint8_t sync_marker[AVRO_LOG_SYNC_SIZE] = "bench-sync-mark";

int append_blocks_begin(const struct append_job *job, uint64_t *ret_offset)
{
    static uint8_t header[65536];
    struct avro_log_identity identity = {.channel = "bench", .created_ns = realtime_now_ns()};
    int fd = open(job->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fallocate(fd, 0, 0, (off_t)job->size) < 0)
        support_fail(job->path);
    memcpy(identity.sync, sync_marker, sizeof sync_marker);
    *ret_offset = avro_log_write_header(header, &identity);
    support_check(fd_write_all(fd, header, *ret_offset, 0), "writing the header");
    return fd;
}

static uint8_t *append(const struct append_job *job, uint8_t *to, uint64_t seq)
{
    struct avro_log_record record;
    append_fill(job, seq, &record);
    uint8_t *payload = avro_log_write_record_head(to, &record);
    memcpy(payload, record.payload, record.payload_length);
    return avro_log_write_record_crc(to, payload + record.payload_length);
}

static uint8_t *seal(uint8_t *block, uint8_t *end, uint64_t count)
{
    avro_log_write_block_header(block, count, (uint64_t)(end - block) - AVRO_LOG_BLOCK_HEADER_SIZE);
    memcpy(end, sync_marker, sizeof sync_marker);
    return end + sizeof sync_marker;
}

size_t append_blocks_next(struct append_job *job, uint8_t *to)
{
    uint8_t *block = to, *end = to + AVRO_LOG_BLOCK_HEADER_SIZE;
    uint64_t count = 0;
    for (int i = 0; i < APPEND_STEP; i++) {
        end = append(job, end, job->records++);
        count++;
        if (end - block < AVRO_LOG_BLOCK_SIZE && i + 1 < APPEND_STEP)
            continue;
        block = seal(block, end, count);
        end = block + AVRO_LOG_BLOCK_HEADER_SIZE;
        count = 0;
    }
    return (size_t)(block - to);
}

void append_blocks_end(struct append_job *job, int *fd, uint64_t length)
{
    job->bytes = length;
    if (ftruncate(*fd, (off_t)length) < 0)
        support_fail("ftruncate");
    fd_close(fd);
}
