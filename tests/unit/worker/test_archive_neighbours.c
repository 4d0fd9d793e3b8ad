/* SPDX-License-Identifier: MIT */
/* Segments of one folder that may have the same numbers: whatever was finished before, can't be
 * finished now or is in use, each record is in one sealed file, and no number is given again. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/fd.h"
#include "tests/lib/archive_rig.h"
#include "tests/lib/log_maker.h"
#include "worker/archive/folder.h"

#define SEED     99
#define PREPARED RIG_CHANNEL "-prepared-0123456789abcdef.avro.open"

static struct archive_rig rig;

/* A segment, and its names while it is written and when it is sealed. */
struct segment {
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
};

static struct segment one, two;

static void setup(void)
{
    archive_rig_prepare(&rig);
    archive_rig_start(&rig);
    archive_rig_make_folder(&rig);
}

static void teardown(void)
{
    log_maker_free(&one.maker);
    log_maker_free(&two.maker);
    archive_rig_end(&rig);
}

static void make(struct segment *segment, uint64_t first_seq, int blocks)
{
    archive_rig_make_log(&segment->maker, SEED, first_seq, blocks, segment->open_name,
                         segment->name);
}

static void write_open(const struct segment *segment, const char *name)
{
    log_maker_write(rig.channel, name, segment->maker.bytes, segment->maker.size);
}

static struct message_recovered recover(const char *keep)
{
    struct message_recovered recovered = archive_rig_recover(&rig, keep, NULL);
    ck_assert_msg(recovered.error == 0, "%s", recovered.reason);
    return recovered;
}

/* One that was sealed up to here, by a recovery before this one or because it was asked to. */
static void write_sealed(struct segment *segment)
{
    log_maker_seal(&segment->maker);
    log_maker_write(rig.channel, segment->name, segment->maker.bytes, segment->maker.block_start);
}

/* A segment failed where it begins, and its successor was given the same numbers. That is sealed
 * already, the first one is not. */
START_TEST(test_records_of_a_sealed_twin_are_not_kept_twice)
{
    make(&one, 0, 5);
    write_sealed(&one);
    make(&two, 0, 3);
    write_open(&two, PREPARED);
    ck_assert_uint_eq(recover(NULL).next_seq, 100);
    archive_rig_check_sealed(&rig, &one.maker, one.name, 0, 100);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
}
END_TEST

/* What it alone has is kept, whatever has its number. */
START_TEST(test_a_twin_with_more_is_kept)
{
    make(&one, 0, 3);
    write_sealed(&one);
    make(&two, 0, 5);
    write_open(&two, PREPARED);
    ck_assert_uint_eq(recover(NULL).next_seq, 100);
    char second[SEGMENT_NAME_SIZE];
    folder_number_name(two.open_name, AVRO_LOG_SUFFIX, 2, second);
    archive_rig_check_sealed(&rig, &two.maker, second, 0, 100);
}
END_TEST

/* A power cut: of the newer one, the disk has the header with which it was begun in vain while the
 * one before went on, and not its first blocks. */
START_TEST(test_a_header_of_a_vain_beginning_ends_nothing)
{
    uint8_t header[AVRO_LOG_HEADER_MAX];
    make(&one, 0, 3);
    make(&two, 60, 5);
    struct avro_log_identity vain = two.maker.identity;
    vain.first_seq = 25;
    size_t size = avro_log_write_header(header, &vain);
    ck_assert_uint_eq(size, two.maker.header_size);
    memset(two.maker.bytes, 0, 4096);
    memcpy(two.maker.bytes, header, size);
    write_open(&one, one.open_name);
    write_open(&two, two.open_name);
    ck_assert_uint_eq(recover(NULL).next_seq, 160);
    archive_rig_check_sealed(&rig, &one.maker, one.name, 0, 60);
    ck_assert(archive_rig_has(&rig, two.name));
    ck_assert_int_eq(archive_rig_count(&rig, AVRO_LOG_DAMAGED_SUFFIX), 1);
}
END_TEST

/* The newer one can't be finished for now: its first records, which the one before has behind its
 * end, are its own all the same. */
START_TEST(test_one_that_is_finished_later_keeps_its_records)
{
    char in_the_way[SEGMENT_NAME_SIZE], path[512];
    make(&one, 0, 3);
    write_open(&one, one.open_name);
    make(&two, 50, 3);
    two.maker.bytes[two.maker.block_start + 70] ^= 1;
    write_open(&two, two.open_name);
    folder_number_name(two.open_name, AVRO_LOG_MENDING_SUFFIX, 1, in_the_way);
    snprintf(path, sizeof path, "%s/%s", rig.channel, in_the_way);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    ck_assert_uint_ge(recover(NULL).next_seq, 110);
    archive_rig_check_sealed(&rig, &one.maker, one.name, 0, 50);
    ck_assert(archive_rig_has(&rig, two.open_name));
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_uint_eq(recover(NULL).next_seq, 110);
    archive_rig_check_sealed(&rig, &one.maker, one.name, 0, 50);
    archive_rig_check_sealed(&rig, &two.maker, two.name, 50, 59);
}
END_TEST

/* The segment in use has the name yet that it was prepared under. */
START_TEST(test_one_in_use_that_was_not_renamed_yet_keeps_its_records)
{
    make(&one, 0, 3);
    write_open(&one, one.open_name);
    make(&two, 50, 3);
    write_open(&two, PREPARED);
    ck_assert_uint_eq(recover(PREPARED).next_seq, 110);
    archive_rig_check_sealed(&rig, &one.maker, one.name, 0, 50);
    ck_assert(archive_rig_has(&rig, PREPARED));
    ck_assert_int_eq(archive_rig_count(&rig, ""), 2);
}
END_TEST

/* Its end is rotten, and it can't be finished for now: numbers go on behind all that it can hold.
 * Where its end is as a recorder leaves it, they go on behind its last record. */
START_TEST(test_numbers_of_one_that_is_finished_later)
{
    char in_the_way[SEGMENT_NAME_SIZE], path[512];
    make(&one, 0, 5);
    if (_i == 0)
        memset(one.maker.bytes + one.maker.write_offset - 2000, 0xa5, 2000);
    else
        one.maker.bytes[one.maker.block_start + 70] ^= 1;
    write_open(&one, one.open_name);
    folder_number_name(one.open_name, AVRO_LOG_MENDING_SUFFIX, 1, in_the_way);
    snprintf(path, sizeof path, "%s/%s", rig.channel, in_the_way);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    const uint64_t next_seq = recover(NULL).next_seq;
    ck_assert_uint_ge(next_seq, 100);
    if (_i == 1)
        ck_assert_uint_eq(next_seq, 100);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_uint_eq(recover(NULL).next_seq, next_seq);
}
END_TEST

/* A power cut: nothing of the newer one came to the disk but its name, which says that the numbers
 * below were given; and says so again where nothing is recorded until the next start. */
START_TEST(test_a_name_tells_numbers_that_nothing_else_does)
{
    make(&one, 0, 2);
    write_open(&one, one.open_name);
    make(&two, 60, 0);
    memset(two.maker.bytes, 0, two.maker.size);
    write_open(&two, two.open_name);
    ck_assert_uint_eq(recover(NULL).next_seq, 60);
    ck_assert_uint_eq(recover(NULL).next_seq, 60);
    archive_rig_check_sealed(&rig, &one.maker, one.name, 0, 40);
    archive_rig_check_sealed(&rig, &two.maker, two.name, 0, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("archive_neighbours");
    TCase *tests = tcase_create("everything");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_records_of_a_sealed_twin_are_not_kept_twice);
    tcase_add_test(tests, test_a_twin_with_more_is_kept);
    tcase_add_test(tests, test_a_header_of_a_vain_beginning_ends_nothing);
    tcase_add_test(tests, test_one_that_is_finished_later_keeps_its_records);
    tcase_add_test(tests, test_one_in_use_that_was_not_renamed_yet_keeps_its_records);
    tcase_add_loop_test(tests, test_numbers_of_one_that_is_finished_later, 0, 2);
    tcase_add_test(tests, test_a_name_tells_numbers_that_nothing_else_does);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
