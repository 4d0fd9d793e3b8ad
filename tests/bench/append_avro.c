/* SPDX-License-Identifier: MIT */
/* avro-c's own writer with the same schema and block size, through its generic values. */
#include <avro.h>
#include <string.h>
#include <sys/stat.h>

#include "common/avro_log_header.h"
#include "tests/bench/append.h"
#include "tests/bench/support.h"

enum { SEQ, RECEIVED_AT, RECEIVED_NS, SOURCE, LOST_BEFORE, CUT, FLAGS, PAYLOAD, CRC, FIELDS };

static void check(int result)
{
    if (result != 0)
        support_refuse(avro_strerror());
}

static void fill(avro_value_t fields[FIELDS], const struct avro_log_record *record)
{
    uint32_t crc = avro_log_crc32c(record->payload, record->payload_length);
    check(avro_value_set_long(&fields[SEQ], record->seq));
    check(avro_value_set_long(&fields[RECEIVED_AT], record->received_at_us));
    check(avro_value_set_int(&fields[RECEIVED_NS], record->received_ns));
    check(avro_value_set_string_len(&fields[SOURCE], (char *)(uintptr_t)record->source,
                                    record->source_length + 1));
    check(avro_value_set_int(&fields[LOST_BEFORE], record->lost_before));
    check(avro_value_set_int(&fields[CUT], record->cut));
    check(avro_value_set_int(&fields[FLAGS], record->flags));
    check(avro_value_set_bytes(&fields[PAYLOAD], (uint8_t *)(uintptr_t)record->payload,
                               record->payload_length));
    check(avro_value_set_fixed(&fields[CRC], &crc, sizeof crc));
}

static void run(struct append_job *job)
{
    avro_schema_t schema;
    avro_file_writer_t writer;
    avro_value_t value, fields[FIELDS];
    struct avro_log_record record;
    struct stat status;

    check(avro_schema_from_json_length(avro_log_schema, strlen(avro_log_schema), &schema));
    check(avro_file_writer_create_with_codec(job->path, schema, &writer, "null",
                                             AVRO_LOG_BLOCK_SIZE));
    avro_value_iface_t *interface = avro_generic_class_from_schema(schema);
    check(avro_generic_value_new(interface, &value));
    for (size_t i = 0; i < FIELDS; i++)
        check(avro_value_get_by_index(&value, i, &fields[i], NULL));
    append_fill(job, 1000000, &record);
    uint64_t most = job->size / avro_log_record_size(&record);

    append_clock_begin(job);
    while (job->records + APPEND_STEP <= most) {
        for (int i = 0; i < APPEND_STEP; i++) {
            append_fill(job, job->records++, &record);
            fill(fields, &record);
            check(avro_file_writer_append_value(writer, &value));
        }
        if (append_clock_over(job))
            break;
    }
    check(avro_file_writer_flush(writer));
    append_clock_end(job);
    check(avro_file_writer_close(writer));
    avro_value_decref(&value);
    avro_value_iface_decref(interface);
    avro_schema_decref(schema);
    if (stat(job->path, &status) == 0)
        job->bytes = (uint64_t)status.st_size;
}

const struct append_backend append_avro = {"avro-c", "avro-c file writer", false, run, NULL};
