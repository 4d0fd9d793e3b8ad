/* SPDX-License-Identifier: MIT */
/* Tells damage from a place that was read too early. Called by the scan, which still needs what its
 * window shows: so the file is read beside it. What can't be read again is no reason to go back. */
#include "common/avro_log_resume.h"

#include <stdlib.h>
#include <string.h>

/* Most records are short. */
static bool record_is_there(const struct avro_log_window *window, uint64_t offset,
                            uint64_t *ret_seq)
{
    uint8_t brief[4096];
    struct avro_log_record record = {0};
    const char *what;
    size_t size = avro_log_window_read_again(window, offset, brief, sizeof brief);
    long length = avro_log_read_record(brief, size, &record, &what);
    if (length <= 0 && record.payload_length > sizeof brief / 2) { /* plausible, and longer */
        uint8_t *whole = malloc(AVRO_LOG_RECORD_MAX);
        if (!whole)
            return false;
        size = avro_log_window_read_again(window, offset, whole, AVRO_LOG_RECORD_MAX);
        length = avro_log_read_record(whole, size, &record, &what);
        free(whole);
    }
    *ret_seq = (uint64_t)record.seq;
    return length > 0;
}

static bool header_is_there(const struct avro_log_window *window, uint64_t offset,
                            uint64_t *ret_count, uint64_t *ret_size)
{
    uint8_t header[AVRO_LOG_BLOCK_HEADER_SIZE];
    size_t size = avro_log_window_read_again(window, offset, header, sizeof header);
    return avro_log_read_block_header(header, size, ret_count, ret_size);
}

bool avro_log_resume_is_possible(const struct avro_log_resume *resume,
                                 const struct avro_log_window *window,
                                 const uint8_t sync[AVRO_LOG_SYNC_SIZE])
{
    uint8_t bytes[AVRO_LOG_SYNC_SIZE];
    uint64_t count, size, seq;
    if (!resume->in_block)
        return header_is_there(window, resume->at, &count, &size) ||
               record_is_there(window, resume->at + AVRO_LOG_BLOCK_HEADER_SIZE, &seq);
    if (avro_log_window_read_again(window, resume->at, bytes, sizeof bytes) == sizeof bytes &&
        memcmp(bytes, sync, sizeof bytes) == 0)
        return header_is_there(window, resume->block.offset, &count, &size) &&
               count == resume->block.count && size == resume->block.size;
    return record_is_there(window, resume->at, &seq) && seq >= resume->expected_seq &&
           (!resume->exact || seq == resume->expected_seq);
}
