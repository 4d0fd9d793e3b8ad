/* SPDX-License-Identifier: MIT */
/* A sealed log file, block by block. Called by avro_log_copy.c and by holdfastctl's export. Records
 * are written as the bytes that they are given as, which a CRC vouches for. */
#include "common/avro_log_writer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/fd.h"

int avro_log_writer_init(struct avro_log_writer *writer, int to_fd)
{
    *writer = (struct avro_log_writer){.to_fd = to_fd, .block = malloc(AVRO_LOG_BLOCK_MAX)};
    return writer->block ? 0 : -ENOMEM;
}

void avro_log_writer_free(struct avro_log_writer *writer)
{
    free(writer->block);
    writer->block = NULL;
}

static int append(struct avro_log_writer *writer, const uint8_t *bytes, size_t size)
{
    int result = fd_write_all(writer->to_fd, bytes, size, writer->written);
    writer->written += size;
    return result;
}

int avro_log_writer_begin(struct avro_log_writer *writer, const struct avro_log_identity *identity)
{
    uint8_t header[AVRO_LOG_HEADER_MAX];
    struct avro_log_identity own = *identity;
    if (getrandom(writer->sync, sizeof writer->sync, 0) != sizeof writer->sync)
        return -EIO;
    memcpy(own.sync, writer->sync, sizeof own.sync);
    writer->begun = true;
    return append(writer, header, avro_log_write_header(header, &own));
}

static int write_block(struct avro_log_writer *writer)
{
    if (writer->count == 0)
        return 0;
    avro_log_write_block_header(writer->block, writer->count, writer->length);
    size_t size = AVRO_LOG_BLOCK_HEADER_SIZE + writer->length;
    memcpy(writer->block + size, writer->sync, AVRO_LOG_SYNC_SIZE);
    writer->count = 0;
    writer->length = 0;
    return append(writer, writer->block, size + AVRO_LOG_SYNC_SIZE);
}

int avro_log_writer_add(struct avro_log_writer *writer, const uint8_t *record, size_t length,
                        uint64_t seq)
{
    int result = 0;
    assert(writer->begun && length <= AVRO_LOG_RECORD_MAX);
    if (writer->length >= AVRO_LOG_BLOCK_SIZE || seq != writer->next_seq)
        result = write_block(writer);
    if (result < 0)
        return result;
    memcpy(writer->block + AVRO_LOG_BLOCK_HEADER_SIZE + writer->length, record, length);
    writer->length += length;
    writer->count++;
    writer->next_seq = seq + 1;
    return 0;
}

int avro_log_writer_end(struct avro_log_writer *writer)
{
    return write_block(writer);
}
