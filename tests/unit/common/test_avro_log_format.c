/* SPDX-License-Identifier: MIT */
/* The log's bytes are Avro: whatever values a record has, avro-c's own encoder makes the same bytes
 * of them, and its file reader gets the same values back from a whole file. Then the other
 * direction: our decoder takes back what was written, refuses every truncation, every wrong byte,
 * and every length that doesn't fit. */
#include "common/avro_log_format.h"
#include "common/avro_log_header.h"

#include <avro.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/log_maker.h"

#define ROUNDS 20000
#define SEED   20251121

static uint64_t random_state;

static uint64_t dice(void)
{
    return log_maker_random(&random_state);
}

/* Every length of varint comes up, not only the long ones. */
static int64_t any_long(void)
{
    return (int64_t)(dice() >> dice() % 64);
}

static int32_t any_int(void)
{
    return (int32_t)(uint32_t)(dice() >> (32 + dice() % 32)) ^ (dice() & 1 ? 0 : -1);
}

static void any_record(struct avro_log_record *record, char *source, uint8_t *payload)
{
    record->seq = any_long() & AVRO_LOG_SEQ_MAX;
    record->received_at_us = any_long() ^ (dice() & 1 ? 0 : -1);
    record->received_ns = (int32_t)(dice() % 1000);
    record->source_length = dice() % SOCKET_ADDRESS_TEXT_SIZE;
    for (size_t i = 0; i < record->source_length; i++)
        source[i] = (char)('!' + dice() % 90);
    record->source = source;
    record->lost_before = any_int();
    record->cut = any_int();
    record->flags = any_int();
    record->payload_length = dice() % 50 ? dice() % 200 : dice() % (CHANNEL_DATAGRAM_MAX + 1);
    for (size_t i = 0; i < record->payload_length; i++)
        payload[i] = (uint8_t)dice();
    record->payload = payload;
}

static size_t encode(const struct avro_log_record *record, uint8_t *to)
{
    uint8_t *payload = avro_log_write_record_head(to, record);
    memcpy(payload, record->payload, record->payload_length);
    return (size_t)(avro_log_write_record_crc(to, payload + record->payload_length) - to);
}

static void set_field(avro_value_t *value, const char *name, avro_value_t *ret)
{
    ck_assert_int_eq(avro_value_get_by_name(value, name, ret, NULL), 0);
}

static size_t encode_with_avro_c(avro_value_t *value, const struct avro_log_record *record,
                                 const uint8_t crc[4], uint8_t *to, size_t size)
{
    avro_value_t field;
    char source[SOCKET_ADDRESS_TEXT_SIZE];
    snprintf(source, sizeof source, "%.*s", (int)record->source_length, record->source);
    ck_assert_int_eq(avro_value_reset(value), 0);
    set_field(value, "seq", &field);
    avro_value_set_long(&field, record->seq);
    set_field(value, "received_at", &field);
    avro_value_set_long(&field, record->received_at_us);
    set_field(value, "received_ns", &field);
    avro_value_set_int(&field, record->received_ns);
    set_field(value, "source", &field);
    avro_value_set_string(&field, source);
    set_field(value, "lost_before", &field);
    avro_value_set_int(&field, record->lost_before);
    set_field(value, "cut", &field);
    avro_value_set_int(&field, record->cut);
    set_field(value, "flags", &field);
    avro_value_set_int(&field, record->flags);
    set_field(value, "payload", &field);
    avro_value_set_bytes(&field, (void *)record->payload, record->payload_length);
    set_field(value, "crc32c", &field);
    avro_value_set_fixed(&field, (void *)crc, 4);
    avro_writer_t writer = avro_writer_memory((char *)to, (int64_t)size);
    ck_assert_int_eq(avro_value_write(writer, value), 0);
    size_t length = (size_t)avro_writer_tell(writer);
    avro_writer_free(writer);
    return length;
}

static void check_equal(const struct avro_log_record *got, const struct avro_log_record *wanted)
{
    ck_assert_int_eq(got->seq, wanted->seq);
    ck_assert_int_eq(got->received_at_us, wanted->received_at_us);
    ck_assert_int_eq(got->received_ns, wanted->received_ns);
    ck_assert_int_eq(got->lost_before, wanted->lost_before);
    ck_assert_int_eq(got->cut, wanted->cut);
    ck_assert_int_eq(got->flags, wanted->flags);
    ck_assert_uint_eq(got->source_length, wanted->source_length);
    ck_assert_mem_eq(got->source, wanted->source, wanted->source_length);
    ck_assert_uint_eq(got->payload_length, wanted->payload_length);
    ck_assert_mem_eq(got->payload, wanted->payload, wanted->payload_length);
}

START_TEST(test_same_bytes_as_avro_c)
{
    static uint8_t ours[AVRO_LOG_RECORD_MAX], theirs[AVRO_LOG_RECORD_MAX],
        payload[CHANNEL_DATAGRAM_MAX];
    char source[SOCKET_ADDRESS_TEXT_SIZE];
    struct avro_log_record record, got;
    avro_schema_t schema;
    avro_value_t value;
    const char *what;

    random_state = log_maker_seed(SEED);
    ck_assert_int_eq(
        avro_schema_from_json_length(avro_log_schema, strlen(avro_log_schema), &schema), 0);
    avro_value_iface_t *class = avro_generic_class_from_schema(schema);
    ck_assert_int_eq(avro_generic_value_new(class, &value), 0);
    for (int round = 0; round < ROUNDS; round++) {
        any_record(&record, source, payload);
        size_t length = encode(&record, ours);
        ck_assert_uint_eq(length, avro_log_record_size(&record));
        ck_assert_uint_le(length,
                          AVRO_LOG_RECORD_OVERHEAD + record.source_length + record.payload_length);
        size_t wanted =
            encode_with_avro_c(&value, &record, ours + length - 4, theirs, sizeof theirs);
        ck_assert_msg(length == wanted && memcmp(ours, theirs, wanted) == 0,
                      "round %d: not the bytes of avro-c", round);
        ck_assert_int_eq(avro_log_read_record(ours, length, &got, &what), (long)length);
        check_equal(&got, &record);
    }
    avro_value_decref(&value);
    avro_value_iface_decref(class);
    avro_schema_decref(schema);
}
END_TEST

static int64_t read_long(avro_value_t *value, const char *name)
{
    avro_value_t field;
    int64_t number;
    set_field(value, name, &field);
    ck_assert_int_eq(avro_value_get_long(&field, &number), 0);
    return number;
}

static int32_t read_int(avro_value_t *value, const char *name)
{
    avro_value_t field;
    int32_t number;
    set_field(value, name, &field);
    ck_assert_int_eq(avro_value_get_int(&field, &number), 0);
    return number;
}

static void check_avro_value(const struct log_maker *maker, avro_value_t *value, int64_t seq)
{
    avro_value_t field;
    size_t size;
    struct avro_log_record record = {.seq = read_long(value, "seq"),
                                     .received_at_us = read_long(value, "received_at"),
                                     .received_ns = read_int(value, "received_ns"),
                                     .lost_before = read_int(value, "lost_before"),
                                     .cut = read_int(value, "cut"),
                                     .flags = read_int(value, "flags")};
    set_field(value, "source", &field);
    ck_assert_int_eq(avro_value_get_string(&field, &record.source, &size), 0);
    record.source_length = size - 1; /* avro-c counts the closing zero */
    set_field(value, "payload", &field);
    ck_assert_int_eq(
        avro_value_get_bytes(&field, (const void **)&record.payload, &record.payload_length), 0);
    ck_assert_int_eq(record.seq, seq);
    ck_assert_msg(log_maker_is_genuine(maker, &record), "avro-c reads other values for record %lld",
                  (long long)seq);
}

static void check_whole_file_in_avro_c(bool older)
{
    struct log_maker maker;
    char folder[64], path[128];
    avro_file_reader_t reader;
    avro_value_t value;

    log_maker_begin(&maker, 4 * 1024 * 1024, "engine", 1000, log_maker_seed(SEED));
    if (older)
        log_maker_age(&maker);
    while (log_maker_append(&maker))
        if (maker.next_seq % 97 == 0)
            log_maker_seal(&maker);
    log_maker_seal(&maker);
    ck_assert_uint_gt(maker.next_seq, 10000);
    log_maker_folder(folder);
    log_maker_write(folder, "whole.avro", maker.bytes, maker.block_start);
    snprintf(path, sizeof path, "%s/whole.avro", folder);
    int opened = avro_file_reader(path, &reader);
    log_maker_remove_folder(folder);
    ck_assert_msg(opened == 0, "avro-c: %s", avro_strerror());
    avro_schema_t schema = avro_file_reader_get_writer_schema(reader);
    avro_value_iface_t *class = avro_generic_class_from_schema(schema);
    avro_generic_value_new(class, &value);
    uint64_t seq = 1000;
    while (avro_file_reader_read_value(reader, &value) == 0) {
        check_avro_value(&maker, &value, (int64_t)seq++);
        avro_value_reset(&value);
    }
    ck_assert_uint_eq(seq, maker.next_seq);
    avro_value_decref(&value);
    avro_value_iface_decref(class);
    avro_schema_decref(schema);
    avro_file_reader_close(reader);
    log_maker_free(&maker);
}

START_TEST(test_a_whole_file_reads_the_same_in_avro_c)
{
    check_whole_file_in_avro_c(false);
}
END_TEST

START_TEST(test_an_older_versions_file_reads_the_same_in_avro_c)
{
    check_whole_file_in_avro_c(true);
}
END_TEST

START_TEST(test_varints_have_both_forms)
{
    static const int64_t corners[] = {0,   -1,        1,         63,        64,       -64,
                                      -65, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
    uint8_t bytes[16], header[AVRO_LOG_BLOCK_HEADER_SIZE];
    int64_t got;
    for (size_t i = 0; i < sizeof corners / sizeof *corners; i++) {
        size_t length = avro_log_write_long(bytes, corners[i]);
        ck_assert_int_eq(avro_log_read_long(bytes, length, &got), (long)length);
        ck_assert_int_eq(got, corners[i]);
        for (size_t cut = 0; cut < length; cut++)
            ck_assert_int_eq(avro_log_read_long(bytes, cut, &got), -EBADMSG);
    }
    static const uint64_t padded[] = {0, 1, 63, 64, 65536, 1u << 20, UINT32_MAX, (1ull << 34) - 1};
    for (size_t i = 0; i < sizeof padded / sizeof *padded; i++) {
        avro_log_write_block_header(header, padded[i], padded[i] / 2);
        ck_assert_int_eq(avro_log_read_long(header, sizeof header, &got), AVRO_LOG_PADDED_SIZE);
        ck_assert_int_eq(got, (int64_t)padded[i]);
        ck_assert_int_eq(
            avro_log_read_long(header + AVRO_LOG_PADDED_SIZE, AVRO_LOG_PADDED_SIZE, &got),
            AVRO_LOG_PADDED_SIZE);
        ck_assert_int_eq(got, (int64_t)(padded[i] / 2));
    }
    memset(bytes, 0xff, sizeof bytes); /* never ends; and a tenth byte with more than 64 bits */
    ck_assert_int_eq(avro_log_read_long(bytes, sizeof bytes, &got), -EBADMSG);
    bytes[9] = 0x02;
    ck_assert_int_eq(avro_log_read_long(bytes, sizeof bytes, &got), -EBADMSG);
}
END_TEST

/* A copy that ends at its allocation's end: with the sanitizer, one byte too far is noticed. */
static uint8_t *exact_copy(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, size);
    return copy;
}

START_TEST(test_every_truncation_of_a_record_is_refused)
{
    static uint8_t bytes[AVRO_LOG_RECORD_MAX], payload[CHANNEL_DATAGRAM_MAX];
    char source[SOCKET_ADDRESS_TEXT_SIZE];
    struct avro_log_record record, got;
    const char *what;
    random_state = log_maker_seed(SEED);
    for (int round = 0; round < 50; round++) {
        any_record(&record, source, payload);
        record.payload_length %= 400;
        size_t length = encode(&record, bytes);
        for (size_t cut = 0; cut < length; cut++) {
            uint8_t *copy = exact_copy(bytes, cut);
            ck_assert_int_eq(avro_log_read_record(copy, cut, &got, &what), -EBADMSG);
            free(copy);
        }
    }
}
END_TEST

/* An empty payload whose length takes `extra` bytes more than it must; its CRC is right. */
static size_t encode_padded(const struct avro_log_record *record, size_t extra, uint8_t *to)
{
    uint8_t *at = avro_log_write_record_head(to, record) - 1;
    for (size_t i = 0; i < extra; i++)
        *at++ = 0x80;
    *at++ = 0;
    return (size_t)(avro_log_write_record_crc(to, at) - to);
}

/* Else a record may be longer than AVRO_LOG_RECORD_MAX, and than the room that is made for it. */
START_TEST(test_numbers_that_are_longer_than_they_must_be_are_refused)
{
    uint8_t bytes[AVRO_LOG_RECORD_MAX + 16];
    const struct avro_log_record record = {.seq = 1, .source = "127.0.0.1:1", .source_length = 11};
    struct avro_log_record got;
    const char *what;
    size_t length = encode_padded(&record, 0, bytes);
    ck_assert_int_eq(avro_log_read_record(bytes, length, &got, &what), (long)length);
    for (size_t extra = 1; extra < 10; extra++) {
        length = encode_padded(&record, extra, bytes);
        ck_assert_int_eq(avro_log_read_record(bytes, length, &got, &what), -EBADMSG);
    }
}
END_TEST

START_TEST(test_every_wrong_bit_of_a_record_is_refused)
{
    static uint8_t bytes[AVRO_LOG_RECORD_MAX], payload[CHANNEL_DATAGRAM_MAX];
    char source[SOCKET_ADDRESS_TEXT_SIZE];
    struct avro_log_record record, got;
    const char *what;
    random_state = log_maker_seed(SEED);
    for (int round = 0; round < 20; round++) {
        any_record(&record, source, payload);
        record.payload_length %= 400;
        size_t length = encode(&record, bytes);
        for (size_t bit = 0; bit < length * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            uint8_t *copy = exact_copy(bytes, length);
            ck_assert_int_eq(avro_log_read_record(copy, length, &got, &what), -EBADMSG);
            free(copy);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}
END_TEST

/* One byte longer than it must be, if `longer` says so. */
static uint8_t *put_long(uint8_t *to, int64_t value, bool longer)
{
    size_t length = avro_log_write_long(to, value);
    if (longer) {
        to[length - 1] |= 0x80;
        to[length++] = 0;
    }
    return to + length;
}

/* The number `longer` of the eight, from 0 on, is longer than it must be. The CRC is right. */
static size_t encode_longer(const struct avro_log_record *record, unsigned longer, uint8_t *to)
{
    uint8_t *at = put_long(to, record->seq, longer == 0);
    at = put_long(at, record->received_at_us, longer == 1);
    at = put_long(at, record->received_ns, longer == 2);
    at = put_long(at, (int64_t)record->source_length, longer == 3);
    memcpy(at, record->source, record->source_length);
    at = put_long(at + record->source_length, record->lost_before, longer == 4);
    at = put_long(at, record->cut, longer == 5);
    at = put_long(at, record->flags, longer == 6);
    at = put_long(at, (int64_t)record->payload_length, longer == 7);
    memcpy(at, record->payload, record->payload_length);
    return (size_t)(avro_log_write_record_crc(to, at + record->payload_length) - to);
}

/* As most records are: of our time, and nothing is unusual about most of them. */
static void any_usual_record(struct avro_log_record *record, char *source, uint8_t *payload)
{
    any_record(record, source, payload);
    if (dice() % 8)
        record->received_at_us = (int64_t)(dice() >> 9);
    if (dice() % 2)
        record->lost_before = record->cut = record->flags = 0;
}

/* Where enough bytes follow, a record is read another way, which must say the same: at the end of
 * its memory, and with anything behind it. */
START_TEST(test_what_follows_a_record_changes_nothing)
{
    static uint8_t bytes[AVRO_LOG_RECORD_MAX + 512], payload[CHANNEL_DATAGRAM_MAX];
    char source[SOCKET_ADDRESS_TEXT_SIZE];
    struct avro_log_record record, got;
    const char *what;
    random_state = log_maker_seed(SEED);
    for (int round = 0; round < ROUNDS; round++) {
        any_usual_record(&record, source, payload);
        const unsigned longer = (unsigned)(dice() % 16);
        const size_t length = encode_longer(&record, longer, bytes);
        for (size_t i = 0; i < 256; i++)
            bytes[length + i] = (uint8_t)dice();
        uint8_t *copy = exact_copy(bytes, length);
        const long wanted = longer < 8 ? -EBADMSG : (long)length;
        ck_assert_int_eq(avro_log_read_record(bytes, length + 256, &got, &what), wanted);
        if (wanted > 0)
            check_equal(&got, &record);
        ck_assert_int_eq(avro_log_read_record(copy, length, &got, &what), wanted);
        if (wanted > 0)
            check_equal(&got, &record);
        free(copy);
        bytes[dice() % length] ^= (uint8_t)(1 << dice() % 8);
        ck_assert_int_eq(avro_log_read_record(bytes, length + 256, &got, &what), -EBADMSG);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("avro_log_format");
    TCase *encoder = tcase_create("encoder"), *decoder = tcase_create("decoder");
    tcase_set_timeout(encoder, 120);
    tcase_set_timeout(decoder, 120);
    tcase_add_test(encoder, test_same_bytes_as_avro_c);
    tcase_add_test(encoder, test_a_whole_file_reads_the_same_in_avro_c);
    tcase_add_test(encoder, test_an_older_versions_file_reads_the_same_in_avro_c);
    tcase_add_test(encoder, test_varints_have_both_forms);
    tcase_add_test(decoder, test_every_truncation_of_a_record_is_refused);
    tcase_add_test(decoder, test_numbers_that_are_longer_than_they_must_be_are_refused);
    tcase_add_test(decoder, test_every_wrong_bit_of_a_record_is_refused);
    tcase_add_test(decoder, test_what_follows_a_record_changes_nothing);
    suite_add_tcase(suite, encoder);
    suite_add_tcase(suite, decoder);
    return log_maker_run(suite);
}
