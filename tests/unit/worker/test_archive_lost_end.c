/* SPDX-License-Identifier: MIT */
/* What lies at the end of a segment that was being written: what a killed recorder leaves there is
 * no damage and costs no number; records that have become unreadable there cost no number that is
 * given again, and nothing of them is removed. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_name.h"
#include "tests/lib/archive_rig.h"
#include "tests/lib/log_maker.h"
#include "worker/archive/folder.h"

#define SEED 99

static struct archive_rig rig;

static void setup(void)
{
    archive_rig_prepare(&rig);
    archive_rig_start(&rig);
    archive_rig_make_folder(&rig);
}

static void teardown(void)
{
    archive_rig_end(&rig);
}

/* The second time nothing is left to do, and nothing was recorded since. */
static uint64_t recover_twice(uint64_t least)
{
    struct message_recovered first = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_msg(first.error == 0, "%s", first.reason);
    ck_assert_uint_ge(first.next_seq, least);
    struct message_recovered second = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_int_eq(second.error, 0);
    ck_assert_uint_eq(second.files, 0);
    ck_assert_uint_eq(second.next_seq, first.next_seq);
    return first.next_seq;
}

/* A record in the block that was open is damaged, and so is what was behind the last one: what is
 * sound is kept, the rest stays in the original, and numbers go on behind all that it can hold. */
START_TEST(test_a_damaged_end_is_kept)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name);
    maker.bytes[maker.block_start + AVRO_LOG_BLOCK_HEADER_SIZE + 30] ^= 1; /* its first record */
    memset(maker.bytes + maker.write_offset, 0x5a, 1000);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    recover_twice(
        100 + (1000 - AVRO_LOG_SYNC_SIZE - AVRO_LOG_BLOCK_HEADER_SIZE) / AVRO_LOG_RECORD_LEAST + 1);
    archive_rig_check_sealed(&rig, &maker, name, 0, 99);
    ck_assert_int_eq(archive_rig_count(&rig, AVRO_LOG_DAMAGED_SUFFIX), 1);
    log_maker_free(&maker);
}
END_TEST

/* Of the last block, the end or all of it is lost: 4096 bytes of it, or 400 and one. How many
 * records it had stands in its header; else nobody knows it. */
START_TEST(test_numbers_of_a_lost_end_are_not_given_again)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name);
    bool is_sealed = _i / 4 == 0, is_zero = _i % 4 / 2 == 1;
    size_t lost = _i % 2 ? 400 : 4096, end = maker.write_offset;
    if (is_sealed)
        log_maker_seal(&maker);
    ck_assert_uint_gt(maker.write_offset - maker.header_size, lost);
    memset(maker.bytes + end - lost, is_zero ? 0 : 0xa5, lost);
    if (is_zero && !is_sealed) /* a page that came to the disk, behind one that did not */
        maker.bytes[end + 100] = 1;
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    uint64_t next_seq = recover_twice(100);
    if (is_sealed && lost == 400)
        ck_assert_uint_eq(next_seq, 100);
    ck_assert_int_eq(archive_rig_count(&rig, AVRO_LOG_DAMAGED_SUFFIX), 1);
    log_maker_free(&maker);
}
END_TEST

/* Nothing sound is left of a segment. */
START_TEST(test_numbers_of_a_segment_that_is_lost_altogether)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 500, 2, open_name, name);
    memset(maker.bytes + maker.header_size, 0xa5, maker.write_offset - maker.header_size);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    recover_twice(540);
    ck_assert_int_eq(archive_rig_count(&rig, AVRO_LOG_DAMAGED_SUFFIX), 1);
    log_maker_free(&maker);
}
END_TEST

/* What a recorder leaves that was killed is no damage: half a record, a marker, all of a seal but
 * the next block's header, and the next block's first record, cut off anywhere. */
START_TEST(test_what_a_killed_recorder_leaves_is_no_damage)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], path[512];
    archive_rig_make_log(&maker, SEED, 0, 3, open_name, name);
    size_t from = maker.write_offset;
    if (_i == 1)
        log_maker_seal(&maker);
    ck_assert(log_maker_append(&maker));
    size_t end = maker.write_offset, whole = end - 1;
    while (maker.bytes[whole] == 0) /* a record may end in a zero byte */
        whole--;
    uint8_t *bytes = malloc(maker.size);
    for (size_t cut = from; cut <= whole; cut++) {
        memcpy(bytes, maker.bytes, maker.size);
        memset(bytes + cut, 0, end - cut);
        log_maker_write(rig.channel, open_name, bytes, maker.size);
        struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
        ck_assert_int_eq(recovered.error, 0);
        ck_assert_msg(recovered.next_seq == 60, "cut at %zu of %zu: %llu", cut - from, end - from,
                      (unsigned long long)recovered.next_seq);
        ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
        snprintf(path, sizeof path, "%s/%s", rig.channel, name);
        ck_assert_int_eq(unlink(path), 0);
    }
    free(bytes);
    log_maker_free(&maker);
}
END_TEST

/* The place of the open block's n-th record; *ret_size: its length. */
static size_t record_at(const struct log_maker *maker, int n, size_t *ret_size)
{
    struct avro_log_record record;
    const char *what;
    size_t at = maker->block_start + AVRO_LOG_BLOCK_HEADER_SIZE;
    for (int i = 0;; i++) {
        long length = avro_log_read_record(maker->bytes + at, maker->size - at, &record, &what);
        ck_assert_int_gt(length, 0);
        *ret_size = (size_t)length;
        if (i == n)
            return at;
        at += (size_t)length;
    }
}

/* One bit of a record's length, in the block that was open: it costs that record, whether it is
 * said to end among the others or behind them all. */
START_TEST(test_records_behind_a_wrong_length_are_kept)
{
    struct log_maker maker;
    struct avro_log_record record;
    const char *what;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    size_t size;
    archive_rig_make_log(&maker, SEED, 0, 3, open_name, name);
    size_t at = record_at(&maker, 4, &size);
    ck_assert_int_gt(avro_log_read_record(maker.bytes + at, size, &record, &what), 0);
    maker.bytes[record.payload - 1 - maker.bytes] ^= (uint8_t)(1u << _i);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    ck_assert_uint_eq(recover_twice(60), 60);
    archive_rig_check_sealed(&rig, &maker, name, 0, 59);
    ck_assert_int_eq(archive_rig_count(&rig, AVRO_LOG_DAMAGED_SUFFIX), 1);
    log_maker_free(&maker);
}
END_TEST

static void seal(const char *open_name, uint64_t length, bool copy)
{
    struct message_seal request = {.channel = RIG_CHANNEL,
                                   .id = archive_rig_inode(&rig, open_name),
                                   .length = length,
                                   .copy = copy};
    snprintf(request.name, sizeof request.name, "%s", open_name);
    archive_rig_send(&rig, MESSAGE_SEAL, &request, sizeof request);
    ck_assert_int_eq(archive_rig_receive(&rig, MESSAGE_SEALED)->sealed->error, 0);
}

/* Sealed up to where it was committed: a page in the middle is lost, or the last record. With and
 * without a disk that had refused a part of it. */
START_TEST(test_nothing_is_removed_when_a_known_end_is_lost)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    size_t from, size, last;
    archive_rig_make_log(&maker, SEED, 0, 3, open_name, name);
    const bool at_end = _i / 2 == 1;
    last = record_at(&maker, 19, &size);
    from = record_at(&maker, 7, &size);
    if (at_end)
        memset(maker.bytes + last, 0xa5, maker.write_offset - last);
    else
        memset(maker.bytes + from, 0, size);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    seal(open_name, maker.write_offset, _i % 2);
    archive_rig_check_sealed(&rig, &maker, name, 0, 59);
    ck_assert_int_eq(archive_rig_count(&rig, AVRO_LOG_DAMAGED_SUFFIX), 1);
    recover_twice(60);
    log_maker_free(&maker);
}
END_TEST

/* The disk had refused a part of it, and nobody knows how far it went. */
START_TEST(test_a_copy_without_its_end_does_not_replace_the_original)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    size_t size;
    archive_rig_make_log(&maker, SEED, 0, 3, open_name, name);
    size_t last = record_at(&maker, 18, &size);
    memset(maker.bytes + last, 0xa5, maker.write_offset - last);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    seal(open_name, UINT64_MAX, true);
    archive_rig_check_sealed(&rig, &maker, name, 0, 58);
    ck_assert_int_eq(archive_rig_count(&rig, AVRO_LOG_DAMAGED_SUFFIX), 1);
    recover_twice(60);
    log_maker_free(&maker);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("archive_lost_end");
    TCase *tests = tcase_create("ends");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_a_damaged_end_is_kept);
    tcase_add_loop_test(tests, test_numbers_of_a_lost_end_are_not_given_again, 0, 8);
    tcase_add_test(tests, test_numbers_of_a_segment_that_is_lost_altogether);
    tcase_add_loop_test(tests, test_what_a_killed_recorder_leaves_is_no_damage, 0, 2);
    tcase_add_loop_test(tests, test_records_behind_a_wrong_length_are_kept, 0, 8);
    tcase_add_loop_test(tests, test_nothing_is_removed_when_a_known_end_is_lost, 0, 4);
    tcase_add_test(tests, test_a_copy_without_its_end_does_not_replace_the_original);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
