/* SPDX-License-Identifier: MIT */
/* Copies sound records into a new log file. Used by the archive and by holdfastctl
 * on damaged files. The original is only read; records are copied as the bytes that their CRC has
 * vouched for, never encoded anew. */
#include "common/avro_log_copy.h"

#include <stdio.h>
#include <string.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_scan.h"
#include "common/avro_log_summary.h"
#include "common/avro_log_writer.h"

struct copying {
    const struct avro_log_copy *copy;
    /* Of the scan under way: the header is in it before the first record. */
    const struct avro_log_summary *summary;
    struct avro_log_writer writer;
};

static int begin(struct copying *copying, const struct avro_log_record *first)
{
    struct avro_log_identity identity = copying->summary->identity;
    if (!copying->summary->has_header) {
        snprintf(identity.channel, sizeof identity.channel, "%s", copying->copy->channel);
        identity.first_seq = (uint64_t)first->seq;
        identity.created_ns =
            first->received_at_us > 0 ? (uint64_t)first->received_at_us * 1000 : 0;
    }
    if (identity.first_seq > (uint64_t)first->seq)
        identity.first_seq = (uint64_t)first->seq;
    if (!avro_log_id_is_known(identity.log_id) && copying->copy->log_id)
        memcpy(identity.log_id, copying->copy->log_id, sizeof identity.log_id);
    return avro_log_writer_begin(&copying->writer, &identity);
}

static int copy_record(void *context, const struct avro_log_found *found)
{
    struct copying *copying = context;
    int result = copying->writer.begun ? 0 : begin(copying, &found->record);
    return result < 0 ? result
                      : avro_log_writer_add(&copying->writer, found->bytes, found->length,
                                            (uint64_t)found->record.seq);
}

static int pass_gap(void *context, uint64_t first_seq, uint64_t end_seq)
{
    const struct avro_log_visitor *visitor = ((struct copying *)context)->copy->visitor;
    return visitor && visitor->gap ? visitor->gap(visitor->context, first_seq, end_seq) : 0;
}

static int pass_fault(void *context, uint64_t offset, const char *what)
{
    const struct avro_log_visitor *visitor = ((struct copying *)context)->copy->visitor;
    return visitor && visitor->fault ? visitor->fault(visitor->context, offset, what) : 0;
}

/* The new file is complete: its header says what is in it. */
static int write_totals(struct copying *copying)
{
    const struct avro_log_identity *identity = &copying->summary->identity;
    struct avro_log_totals totals;
    uint64_t before = identity->has_totals ? identity->totals.latest_ns : 0;
    if (!copying->writer.begun)
        return 0;
    if (before < copying->copy->latest_before_ns)
        before = copying->copy->latest_before_ns;
    avro_log_totals_of(copying->summary, before, &totals);
    int result = avro_log_write_totals(copying->copy->to_fd, &totals);
    return result < 0 ? result : 0;
}

int avro_log_copy(const struct avro_log_copy *copy, struct avro_log_summary *ret)
{
    struct copying copying = {.copy = copy, .summary = ret};
    const struct avro_log_visitor visitor = {&copying, copy_record, pass_gap, pass_fault};

    memset(ret, 0, sizeof *ret);
    int result = avro_log_writer_init(&copying.writer, copy->to_fd);
    if (result == 0)
        result = avro_log_scan(copy->from_fd, &copy->options, &visitor, ret);
    if (result == 0)
        result = avro_log_writer_end(&copying.writer);
    if (result == 0)
        result = write_totals(&copying);
    avro_log_writer_free(&copying.writer);
    return result;
}
