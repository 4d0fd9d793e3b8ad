/* SPDX-License-Identifier: MIT */
/* Any bytes as a record, as a varint and as a file header: nothing outside of them is read, and
 * what is accepted is encoded to bytes that are accepted again with the same values. */
#include "common/avro_log_format.h"
#include "common/avro_log_header.h"

#include <stdlib.h>
#include <string.h>

static void require(int truth)
{
    if (!truth)
        abort();
}

static void try_record(const uint8_t *data, size_t size)
{
    struct avro_log_record record, again;
    const char *what;
    long length = avro_log_read_record(data, size, &record, &what);
    if (length < 0)
        return;
    require((size_t)length <= size);
    uint8_t *copy = malloc(avro_log_record_size(&record));
    uint8_t *payload = avro_log_write_record_head(copy, &record);
    memcpy(payload, record.payload, record.payload_length);
    uint8_t *end = avro_log_write_record_crc(copy, payload + record.payload_length);
    require((size_t)(end - copy) == avro_log_record_size(&record));
    require(avro_log_read_record(copy, (size_t)(end - copy), &again, &what) == end - copy);
    require(again.seq == record.seq && again.received_at_us == record.received_at_us &&
            again.payload_length == record.payload_length &&
            again.source_length == record.source_length);
    free(copy);
}

/* Bytes that end in a right CRC get past it: the lengths before it are what is to be tried. */
static void try_with_crc(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + AVRO_LOG_CRC_SIZE);
    memcpy(copy, data, size);
    avro_log_write_record_crc(copy, copy + size);
    try_record(copy, size + AVRO_LOG_CRC_SIZE);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct avro_log_identity identity;
    const char *what;
    int64_t number;
    try_record(data, size);
    try_with_crc(data, size);
    long length = avro_log_read_long(data, size, &number);
    require(length < 0 || (size_t)length <= size);
    length = avro_log_read_header(data, size, &identity, &what);
    require(length < 0 || (size_t)length <= size);
    require(memchr(identity.channel, '\0', sizeof identity.channel) != NULL);
    return 0;
}
