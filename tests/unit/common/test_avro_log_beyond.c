/* SPDX-License-Identifier: MIT */
/* What lies behind damage inside a block that was being written: whatever a disk has done to one
 * record, or to a page, the sound records behind it come back, and no payload's bytes do. */
#include "common/avro_log_beyond.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_end.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/log_reading.h"

#define RECORDS 60
#define DAMAGED 35 /* of the open block, which has all of them */
#define ROOM    ((size_t)128 * 1024)

/* Records in one open block; where each one begins, and at last where they end. */
static void make(struct log_maker *maker, size_t starts[RECORDS + 1])
{
    log_maker_begin(maker, ROOM, "engine", LOG_READING_FIRST, LOG_READING_SEED);
    for (int i = 0; i < RECORDS; i++) {
        starts[i] = maker->write_offset;
        ck_assert(log_maker_append(maker));
    }
    starts[RECORDS] = maker->write_offset;
}

static void expect_all_but(const struct log_reading *reading, int first, int end)
{
    const uint64_t begin = LOG_READING_FIRST;
    log_reading_expect(reading, begin, begin + (uint64_t)first);
    log_reading_expect(reading, begin + (uint64_t)end, begin + RECORDS);
}

/* Any bit of it, its lengths among them. In a block that was sealed, the same. */
START_TEST(test_a_wrong_bit_costs_one_record)
{
    static struct log_reading reading;
    struct log_maker maker;
    size_t starts[RECORDS + 1];
    make(&maker, starts);
    if (_i == 1)
        log_maker_seal(&maker);
    for (size_t bit = 8 * starts[DAMAGED]; bit < 8 * starts[DAMAGED + 1]; bit++) {
        maker.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        log_reading_scan_bytes(&maker, maker.size, &log_reading_open, &reading);
        expect_all_but(&reading, DAMAGED, DAMAGED + 1);
        ck_assert_uint_eq(reading.summary.records, RECORDS - 1);
        ck_assert_uint_eq(reading.summary.faults, 1);
        maker.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    log_maker_free(&maker);
}
END_TEST

/* A page that came not to the disk, or with other bytes: wherever it lies, also over the block's
 * beginning. What follows it is believed where it goes on up to the marker behind the block; a
 * block that has none yet may hold another log's records in its datagrams, and is kept as it is. */
START_TEST(test_a_lost_page_costs_its_records)
{
    static struct log_reading reading;
    struct log_maker maker;
    size_t starts[RECORDS + 1];
    const size_t page = 2048;
    const bool sealed = _i >= 2;
    make(&maker, starts);
    if (sealed)
        log_maker_seal(&maker);
    uint8_t *whole = malloc(maker.size);
    memcpy(whole, maker.bytes, maker.size);
    for (size_t at = maker.header_size; at < starts[RECORDS - 2] - page; at += 97) {
        int first = 0, end = RECORDS;
        memset(maker.bytes + at, _i % 2 ? 0xa5 : 0, page);
        while (starts[first + 1] <= at)
            first++;
        while (sealed && starts[end - 1] >= at + page)
            end--;
        log_reading_scan_bytes(&maker, maker.size, &log_reading_open, &reading);
        expect_all_but(&reading, first, end);
        memcpy(maker.bytes, whole, maker.size);
    }
    free(whole);
    log_maker_free(&maker);
}
END_TEST

/* A recorder was killed before a record had its checksum. The datagram looks like records with the
 * next numbers: it is none of them, and as that can't be told from a wrong length for certain, the
 * file is kept. */
START_TEST(test_no_record_is_found_in_a_payload)
{
    static struct log_reading reading;
    static uint8_t payload[CHANNEL_DATAGRAM_MAX];
    struct log_maker maker, sender;
    size_t starts[RECORDS + 1], length = 0;
    make(&maker, starts);
    log_maker_begin(&sender, ROOM, "engine", maker.next_seq + 1, LOG_READING_SEED);
    const size_t from = sender.write_offset;
    for (int i = 0; i < 5; i++)
        ck_assert(log_maker_append(&sender));
    length = sender.write_offset - from;
    memcpy(payload, sender.bytes + from, length);
    const struct avro_log_record record = {.seq = (int64_t)maker.next_seq,
                                           .received_at_us = 1760000000000000,
                                           .source = "127.0.0.1:9",
                                           .source_length = 11,
                                           .payload = payload,
                                           .payload_length = length};
    uint8_t *to = avro_log_write_record_head(maker.bytes + maker.write_offset, &record);
    memcpy(to, payload, length);
    int fd = log_maker_memfd(maker.bytes, maker.size);
    log_reading_scan(fd, &maker, &log_reading_open, &reading);
    expect_all_but(&reading, RECORDS, RECORDS);
    ck_assert_uint_eq(reading.summary.records, RECORDS);
    ck_assert_int_eq(avro_log_lacks_end(fd, &log_reading_open, &reading.summary), 1);
    close(fd);
    log_maker_free(&sender);
    log_maker_free(&maker);
}
END_TEST

/* Known is how far the records went: nothing is missing when they end there, with what closes their
 * block or without; every other end is one that has lost something. */
START_TEST(test_a_known_end_tells_what_is_lost)
{
    static struct log_reading reading;
    struct log_maker maker;
    size_t starts[RECORDS + 1];
    make(&maker, starts);
    struct avro_log_scan_options options = log_reading_open;
    const size_t end = maker.write_offset;
    if (_i == 1)
        log_maker_seal(&maker);
    int fd = log_maker_memfd(maker.bytes, maker.size);
    options.size_end = maker.write_offset;
    log_reading_scan(fd, &maker, &options, &reading);
    ck_assert_int_eq(avro_log_lacks_end(fd, &options, &reading.summary), 0);
    for (size_t wrong = starts[RECORDS - 3]; wrong < end; wrong++) {
        ck_assert_int_eq(pwrite(fd, "\xa5", 1, (off_t)wrong), 1);
        log_reading_scan(fd, &maker, &options, &reading);
        if (reading.summary.faults == 0 && maker.bytes[wrong] != 0xa5)
            ck_assert_int_eq(avro_log_lacks_end(fd, &options, &reading.summary), 1);
        ck_assert_int_eq(pwrite(fd, maker.bytes + wrong, 1, (off_t)wrong), 1);
    }
    close(fd);
    log_maker_free(&maker);
}
END_TEST

/* The head of a record with this number whose payload would go on for that long. */
static size_t put_claim(uint8_t *to, int64_t seq, size_t length)
{
    const struct avro_log_record record = {
        .seq = seq, .source = "", .source_length = 0, .payload_length = length};
    return (size_t)(avro_log_write_record_head(to, &record) - to);
}

/* Made so that there is damage every few bytes, each with the longest payload there can be: it is
 * read about once, and as little is tried as in other hostile files. */
START_TEST(test_a_file_of_damage_is_read_about_once)
{
    static const size_t hostile = (size_t)8 * 1024 * 1024;
    struct log_maker maker;
    struct avro_log_summary summary;
    log_maker_begin(&maker, hostile, "engine", 0, LOG_READING_SEED);
    maker.payload_max = 8;
    while (log_maker_append(&maker) && maker.write_offset + 256 < hostile) {
        size_t claimed = _i == 0 ? CHANNEL_DATAGRAM_MAX : 300;
        maker.write_offset +=
            put_claim(maker.bytes + maker.write_offset, (int64_t)maker.next_seq, claimed);
        maker.next_seq++;
        if (_i == 2)
            log_maker_seal(&maker);
    }
    int fd = log_maker_memfd(maker.bytes, hostile);
    ck_assert_int_eq(avro_log_scan(fd, &log_reading_open, NULL, &summary), 0);
    if (_i == 2) /* behind the end of an open block nothing is a fault */
        ck_assert_uint_gt(summary.faults, 0);
    ck_assert_uint_le(summary.bytes_read, 2 * hostile);
    ck_assert_uint_le(summary.bytes_wasted, avro_log_waste_most(hostile) + 1024 * 1024);
    close(fd);
    log_maker_free(&maker);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("avro_log_beyond");
    TCase *tests = tcase_create("everything");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_a_wrong_bit_costs_one_record, 0, 2);
    tcase_add_loop_test(tests, test_a_lost_page_costs_its_records, 0, 4);
    tcase_add_test(tests, test_no_record_is_found_in_a_payload);
    tcase_add_loop_test(tests, test_a_known_end_tells_what_is_lost, 0, 2);
    tcase_add_loop_test(tests, test_a_file_of_damage_is_read_about_once, 0, 3);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
