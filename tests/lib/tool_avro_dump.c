/* SPDX-License-Identifier: MIT */
/* Reads log files with avro-c's own reader and writes their records flat to stdout, for
 * tests/lib/oracle.py. It shares no code with holdfast's reader on purpose: what it can read, any
 * Avro program can. Per record, little endian: i64 seq, i64 received_at, i32 received_ns, i32
 * lost_before, i32 cut, i32 flags, u32 crc32c, u32 source length, u32 payload length, source,
 * payload. */
#include <avro.h>
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void fail(const char *file, const char *what)
{
    fprintf(stderr, "tool_avro_dump: %s: %s: %s\n", file, what, avro_strerror());
    exit(1);
}

static avro_value_t field(const avro_value_t *record, const char *name)
{
    avro_value_t value;
    if (avro_value_get_by_name(record, name, &value, NULL) != 0)
        fail(name, "no such field");
    return value;
}

static int64_t long_field(const avro_value_t *record, const char *name)
{
    avro_value_t value = field(record, name);
    int64_t number;
    if (avro_value_get_long(&value, &number) != 0)
        fail(name, "not a long");
    return number;
}

static int32_t int_field(const avro_value_t *record, const char *name)
{
    avro_value_t value = field(record, name);
    int32_t number;
    if (avro_value_get_int(&value, &number) != 0)
        fail(name, "not an int");
    return number;
}

struct flat {
    int64_t seq;
    int64_t received_at;
    int32_t received_ns;
    int32_t lost_before;
    int32_t cut;
    int32_t flags;
    uint8_t crc32c[4];
    uint32_t source_length;
    uint32_t payload_length;
} __attribute__((packed));

static void dump_record(const avro_value_t *record)
{
    avro_value_t source = field(record, "source"), payload = field(record, "payload"),
                 crc = field(record, "crc32c");
    const char *source_text;
    const void *payload_bytes, *crc_bytes;
    size_t source_size, payload_size, crc_size;
    if (avro_value_get_string(&source, &source_text, &source_size) != 0 ||
        avro_value_get_bytes(&payload, &payload_bytes, &payload_size) != 0 ||
        avro_value_get_fixed(&crc, &crc_bytes, &crc_size) != 0 || crc_size != 4)
        fail("record", "a field has another type than the schema says");
    struct flat flat = {
        .seq = (int64_t)htole64((uint64_t)long_field(record, "seq")),
        .received_at = (int64_t)htole64((uint64_t)long_field(record, "received_at")),
        .received_ns = (int32_t)htole32((uint32_t)int_field(record, "received_ns")),
        .lost_before = (int32_t)htole32((uint32_t)int_field(record, "lost_before")),
        .cut = (int32_t)htole32((uint32_t)int_field(record, "cut")),
        .flags = (int32_t)htole32((uint32_t)int_field(record, "flags")),
        .source_length = htole32((uint32_t)source_size - 1), /* avro-c counts the closing zero */
        .payload_length = htole32((uint32_t)payload_size),
    };
    memcpy(flat.crc32c, crc_bytes, sizeof flat.crc32c);
    fwrite(&flat, sizeof flat, 1, stdout);
    fwrite(source_text, 1, source_size - 1, stdout);
    fwrite(payload_bytes, 1, payload_size, stdout);
}

static void dump_file(const char *path)
{
    avro_file_reader_t reader;
    if (avro_file_reader(path, &reader) != 0)
        fail(path, "cannot open");
    avro_schema_t schema = avro_file_reader_get_writer_schema(reader);
    avro_value_iface_t *class = avro_generic_class_from_schema(schema);
    avro_value_t record;
    avro_generic_value_new(class, &record);
    int result;
    while ((result = avro_file_reader_read_value(reader, &record)) == 0) {
        dump_record(&record);
        avro_value_reset(&record);
    }
    if (result != EOF)
        fail(path, "damaged");
    avro_value_decref(&record);
    avro_value_iface_decref(class);
    avro_schema_decref(schema);
    avro_file_reader_close(reader);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        dump_file(argv[i]);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("tool_avro_dump");
        return 1;
    }
    return 0;
}
