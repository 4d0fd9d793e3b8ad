/* SPDX-License-Identifier: MIT */
/* What a reader finds in a damaged log file: every byte wrong, every truncation, lost pages,
 * foreign bytes. Whatever the damage, no record may come back that was not written, what lies in
 * other blocks must come back, and a copy of what is sound must be without fault. */
#include "common/avro_log_scan.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/log_maker.h"
#include "tests/lib/log_reading.h"

#define SMALL (16 * 1024)

static void check_damaged(struct log_maker *maker, size_t size,
                          const struct avro_log_scan_options *options, struct log_reading *ret)
{
    int fd = log_maker_memfd(maker->bytes, size);
    log_reading_scan(fd, maker, options, ret);
    log_reading_check_copy(maker, fd, options, ret);
    close(fd);
}

#define BLOCKS    4
#define PER_BLOCK 5

/* Where each block begins, and at last where the file ends. */
static void find_blocks(struct log_maker *maker, size_t starts[BLOCKS + 1])
{
    log_maker_begin(maker, SMALL, "engine", LOG_READING_FIRST, LOG_READING_SEED);
    maker->payload_max = 40;
    for (int block = 0; block < BLOCKS; block++) {
        starts[block] = maker->block_start;
        for (int i = 0; i < PER_BLOCK; i++)
            ck_assert(log_maker_append(maker));
        log_maker_seal(maker);
    }
    starts[BLOCKS] = maker->block_start;
}

START_TEST(test_every_byte_wrong)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xff};
    struct log_maker maker;
    struct log_reading reading;
    size_t starts[BLOCKS + 1];
    find_blocks(&maker, starts);
    for (size_t at = 0; at < maker.block_start; at++) {
        uint8_t flip = flips[_i];
        maker.bytes[at] ^= flip;
        check_damaged(&maker, maker.block_start, &log_reading_sealed, &reading);
        ck_assert_msg(at < maker.header_size || reading.summary.faults > 0,
                      "byte %zu is wrong: not noticed", at);
        for (int block = 0; block < BLOCKS; block++) {
            bool hit = at >= starts[block] && at < starts[block + 1];
            uint64_t first = LOG_READING_FIRST + (uint64_t)block * PER_BLOCK;
            if (!hit)
                log_reading_expect(&reading, first, first + PER_BLOCK);
        }
        check_damaged(&maker, maker.block_start, &log_reading_open, &reading);
        maker.bytes[at] ^= flip;
    }
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_a_damaged_payload_costs_one_record)
{
    struct log_maker maker;
    struct log_reading reading;
    log_reading_make(&maker, 3, 50, false);
    uint8_t payload[64];
    struct avro_log_record record;
    log_maker_record(LOG_READING_SEED, 60, LOG_READING_FIRST + 70, payload, &record);
    for (uint64_t seq = LOG_READING_FIRST + 70; record.payload_length < 16; seq++)
        log_maker_record(LOG_READING_SEED, 60, seq, payload, &record);
    uint8_t *hit = memmem(maker.bytes, maker.size, payload, record.payload_length);
    ck_assert_ptr_nonnull(hit);
    hit[7] ^= 0x10;
    check_damaged(&maker, maker.block_start, &log_reading_sealed, &reading);
    ck_assert_uint_eq(reading.summary.records, 149);
    ck_assert_uint_eq(reading.summary.faults, 1);
    ck_assert_ptr_nonnull(strstr(reading.summary.fault_what, "CRC"));
    ck_assert(!reading.seen[record.seq]);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_every_truncation)
{
    struct log_maker maker;
    struct log_reading reading;
    size_t starts[BLOCKS + 1];
    find_blocks(&maker, starts);
    uint64_t best = 0;
    for (size_t size = 0; size < maker.block_start; size++) {
        bool at_block =
            size == starts[0] || size == starts[1] || size == starts[2] || size == starts[3];
        check_damaged(&maker, size, &log_reading_sealed, &reading);
        ck_assert_msg((reading.summary.faults == 0) == at_block, "cut at %zu: %llu faults", size,
                      (unsigned long long)reading.summary.faults);
        ck_assert_uint_ge(reading.summary.records, best); /* every whole record comes back */
        best = reading.summary.records;
        log_reading_expect(&reading, LOG_READING_FIRST, LOG_READING_FIRST + best);
    }
    ck_assert_uint_eq(best, BLOCKS * PER_BLOCK);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_lost_pages)
{
    struct log_maker maker;
    struct log_reading reading;
    log_reading_make(&maker, 60, 25, false);
    uint8_t *whole = malloc(maker.size);
    memcpy(whole, maker.bytes, maker.size);
    size_t pages = maker.block_start / 4096;
    ck_assert_uint_gt(pages, 10);
    for (size_t page = 0; page < pages; page++) {
        memset(maker.bytes + page * 4096, 0, 4096);
        check_damaged(&maker, maker.block_start, &log_reading_sealed, &reading);
        ck_assert_uint_gt(reading.summary.faults, 0);
        /* A page touches so few blocks; without the file header, too, the rest comes back. */
        ck_assert_uint_ge(reading.summary.records, 60 * 25 - 6 * 25);
        memcpy(maker.bytes, whole, maker.size);
    }
    free(whole);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_random_damage)
{
    struct log_maker maker;
    struct log_reading reading;
    log_reading_make(&maker, 20, 20, true);
    uint8_t *whole = malloc(maker.size);
    memcpy(whole, maker.bytes, maker.size);
    uint64_t state = log_maker_seed(LOG_READING_SEED);
    for (int round = 0; round < 1500; round++) {
        size_t used = maker.write_offset;
        for (uint64_t hits = 1 + log_maker_random(&state) % 6; hits > 0; hits--) {
            size_t at = log_maker_random(&state) % used,
                   length = 1 + log_maker_random(&state) % 600;
            size_t from = log_maker_random(&state) % used;
            length = length > used - at ? used - at : length;
            length = length > used - from ? used - from : length;
            if (hits % 2) /* bytes of the file itself, at a wrong place */
                memmove(maker.bytes + at, whole + from, length);
            else
                for (size_t i = 0; i < length; i++)
                    maker.bytes[at + i] = (uint8_t)log_maker_random(&state);
        }
        check_damaged(&maker, maker.size, round % 2 ? &log_reading_open : &log_reading_sealed,
                      &reading);
        memcpy(maker.bytes, whole, maker.size);
    }
    free(whole);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_foreign_bytes_hold_no_record)
{
    static uint8_t bytes[64 * 1024];
    struct log_maker maker = {.seed = LOG_READING_SEED};
    struct log_reading reading;
    uint64_t state = log_maker_seed(LOG_READING_SEED);
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = round == 0 ? 0 : round == 1 ? 0x80 : (uint8_t)log_maker_random(&state);
        int fd = log_maker_memfd(bytes, sizeof bytes - (size_t)round);
        log_reading_scan(fd, &maker, round % 2 ? &log_reading_open : &log_reading_sealed, &reading);
        ck_assert_uint_eq(reading.summary.records, 0);
        ck_assert_uint_gt(reading.summary.faults, 0);
        close(fd);
    }
}
END_TEST

START_TEST(test_what_is_no_file_is_refused)
{
    struct avro_log_summary summary;
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(avro_log_scan(ends[0], &log_reading_sealed, NULL, &summary), -EINVAL);
    ck_assert_int_eq(avro_log_scan(-1, &log_reading_sealed, NULL, &summary), -EBADF);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("avro_log_damage");
    TCase *tests = tcase_create("damage");
    tcase_set_timeout(tests, 240);
    tcase_add_loop_test(tests, test_every_byte_wrong, 0, 3);
    tcase_add_test(tests, test_a_damaged_payload_costs_one_record);
    tcase_add_test(tests, test_every_truncation);
    tcase_add_test(tests, test_lost_pages);
    tcase_add_test(tests, test_random_damage);
    tcase_add_test(tests, test_foreign_bytes_hold_no_record);
    tcase_add_test(tests, test_what_is_no_file_is_refused);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
