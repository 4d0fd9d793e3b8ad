/* SPDX-License-Identifier: MIT */
/* Writes sound records into a new log file, block by block. Used by the archive and by holdfastctl
 * on damaged files. The original is only read; records are copied as the bytes that their CRC has
 * vouched for, never encoded anew. */
#include "common/avro_log_copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_scan.h"
#include "common/avro_log_summary.h"
#include "common/fd.h"

struct writer {
    const struct avro_log_copy *copy;
    /* Of the scan under way: the header is in it before the first record. */
    const struct avro_log_summary *summary;
    uint8_t sync[AVRO_LOG_SYNC_SIZE];
    uint8_t *block;
    size_t length; /* bytes of records in block, behind the room for its header */
    uint64_t count;
    uint64_t next_seq;
    uint64_t written; /* bytes of the new file */
    bool begun;
};

static int append(struct writer *writer, const uint8_t *bytes, size_t size)
{
    int result = fd_write_all(writer->copy->to_fd, bytes, size, writer->written);
    writer->written += size;
    return result;
}

static int write_file_header(struct writer *writer, const struct avro_log_record *first)
{
    uint8_t header[AVRO_LOG_HEADER_MAX];
    struct avro_log_identity identity = writer->summary->identity;
    if (!writer->summary->has_header) {
        snprintf(identity.channel, sizeof identity.channel, "%s", writer->copy->channel);
        identity.first_seq = (uint64_t)first->seq;
        identity.created_ns =
            first->received_at_us > 0 ? (uint64_t)first->received_at_us * 1000 : 0;
    }
    if (identity.first_seq > (uint64_t)first->seq)
        identity.first_seq = (uint64_t)first->seq;
    if (!avro_log_id_is_known(identity.log_id) && writer->copy->log_id)
        memcpy(identity.log_id, writer->copy->log_id, sizeof identity.log_id);
    if (getrandom(writer->sync, sizeof writer->sync, 0) != sizeof writer->sync)
        return -EIO;
    memcpy(identity.sync, writer->sync, sizeof identity.sync);
    writer->begun = true;
    return append(writer, header, avro_log_write_header(header, &identity));
}

static int write_block(struct writer *writer)
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

static int copy_record(void *context, const struct avro_log_found *found)
{
    struct writer *writer = context;
    int result = writer->begun ? 0 : write_file_header(writer, &found->record);
    if (result == 0 &&
        (writer->length >= AVRO_LOG_BLOCK_SIZE || (uint64_t)found->record.seq != writer->next_seq))
        result = write_block(writer);
    if (result < 0)
        return result;
    memcpy(writer->block + AVRO_LOG_BLOCK_HEADER_SIZE + writer->length, found->bytes,
           found->length);
    writer->length += found->length;
    writer->count++;
    writer->next_seq = (uint64_t)found->record.seq + 1;
    return 0;
}

static int pass_gap(void *context, uint64_t first_seq, uint64_t end_seq)
{
    const struct avro_log_visitor *visitor = ((struct writer *)context)->copy->visitor;
    return visitor && visitor->gap ? visitor->gap(visitor->context, first_seq, end_seq) : 0;
}

static int pass_fault(void *context, uint64_t offset, const char *what)
{
    const struct avro_log_visitor *visitor = ((struct writer *)context)->copy->visitor;
    return visitor && visitor->fault ? visitor->fault(visitor->context, offset, what) : 0;
}

/* The new file is complete: its header says what is in it. */
static int write_totals(struct writer *writer)
{
    const struct avro_log_identity *identity = &writer->summary->identity;
    struct avro_log_totals totals;
    uint64_t before = identity->has_totals ? identity->totals.latest_ns : 0;
    if (!writer->begun)
        return 0;
    if (before < writer->copy->latest_before_ns)
        before = writer->copy->latest_before_ns;
    avro_log_totals_of(writer->summary, before, &totals);
    int result = avro_log_write_totals(writer->copy->to_fd, &totals);
    return result < 0 ? result : 0;
}

int avro_log_copy(const struct avro_log_copy *copy, struct avro_log_summary *ret)
{
    struct writer writer = {.copy = copy, .summary = ret};
    const struct avro_log_visitor visitor = {&writer, copy_record, pass_gap, pass_fault};
    const size_t block_max =
        AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_BLOCK_SIZE + AVRO_LOG_RECORD_MAX + AVRO_LOG_SYNC_SIZE;

    memset(ret, 0, sizeof *ret);
    writer.block = malloc(block_max);
    if (!writer.block)
        return -ENOMEM;
    int result = avro_log_scan(copy->from_fd, &copy->options, &visitor, ret);
    if (result == 0)
        result = write_block(&writer);
    if (result == 0)
        result = write_totals(&writer);
    free(writer.block);
    return result;
}
