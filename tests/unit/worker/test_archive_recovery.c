/* SPDX-License-Identifier: MIT */
/* What the archive makes of a channel's folder after a crash. First what a killed worker or daemon
 * leaves: segments never begun, begun, begun but not yet renamed, in use by somebody. Then what a
 * damaged disk leaves: faults in the middle, lost headers. Then recoveries that were interrupted
 * themselves. Always: every sound record is in a sealed file, none twice, and the next number is
 * higher than all of them. */
#include "worker/archive/recovery.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_copy.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/archive_rig.h"
#include "worker/archive/folder.h"

#define SEED 1234

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

static void expect_recovered(uint32_t files, uint64_t next_seq)
{
    struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_msg(recovered.error == 0, "%s", recovered.reason);
    ck_assert_uint_eq(recovered.files, files);
    ck_assert_uint_eq(recovered.next_seq, next_seq);
    recovered = archive_rig_recover(&rig, NULL, NULL); /* a second time: nothing is left to do */
    ck_assert_int_eq(recovered.error, 0);
    ck_assert_uint_eq(recovered.files, 0);
    ck_assert_uint_eq(recovered.next_seq, next_seq);
    ck_assert_int_eq(archive_rig_count(&rig, ".open"), 0);
    ck_assert_int_eq(archive_rig_count(&rig, ".mending"), 0);
}

/* A sealed file without fault, with at least and at most so many records. */
static void check_sound(const struct log_maker *maker, const char *name, uint64_t least,
                        uint64_t most)
{
    char path[512];
    struct avro_log_summary summary;
    const struct avro_log_scan_options sealed = {.open = false, .seq_end = UINT64_MAX};
    snprintf(path, sizeof path, "%s/%s", rig.channel, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(avro_log_scan(fd, &sealed, NULL, &summary), 0);
    fd_close(&fd);
    uint64_t records = summary.records;
    ck_assert_msg(records >= least && records <= most, "%llu records", (unsigned long long)records);
    archive_rig_check_sealed(&rig, maker, name, maker->identity.first_seq, records);
}

/* ---- after a crash ---- */

START_TEST(test_no_folder_and_an_empty_one)
{
    expect_recovered(0, 0);
    log_maker_remove_folder(rig.log_dir);
    expect_recovered(0, 0);
}
END_TEST

START_TEST(test_open_segment_is_finished)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 7000, 3, open_name, name);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    expect_recovered(1, 7060);
    archive_rig_check_sealed(&rig, &maker, name, 7000, 60);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_segment_without_records_is_removed)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    int fd;
    struct segment_grant grant =
        archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd); /* prepared, never begun */
    fd_close(&fd);
    archive_rig_make_log(&maker, SEED, 0, 0, open_name, name); /* begun, nothing recorded */
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    expect_recovered(0, 0);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 0);
    ck_assert(archive_rig_said(&rig, grant.name) && archive_rig_said(&rig, open_name));
    log_maker_free(&maker);
}
END_TEST

/* It says which numbers were given; once another file does, it goes. */
START_TEST(test_segment_without_records_is_kept_for_its_number)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 500, 0, open_name, name);
    for (int i = 0; i < 2; i++) {
        log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
        expect_recovered(0, 500);
        ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
        ck_assert(archive_rig_has(&rig, name));
    }
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_begun_but_not_renamed_gets_its_name)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 42, 1, open_name, name);
    log_maker_write(rig.channel, RIG_CHANNEL "-prepared-0123456789abcdef.avro.open", maker.bytes,
                    maker.size);
    expect_recovered(1, 62);
    archive_rig_check_sealed(&rig, &maker, name, 42, 20);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_kept_segments_stay_as_they_are)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    uint8_t *bytes;
    archive_rig_make_log(&maker, SEED, 0, 2, open_name, name);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    log_maker_write(rig.channel, RIG_CHANNEL "-prepared-1.avro.open", "", 0);
    struct message_recovered recovered =
        archive_rig_recover(&rig, open_name, RIG_CHANNEL "-prepared-1.avro.open");
    ck_assert_int_eq(recovered.error, 0);
    ck_assert_uint_eq(recovered.files, 0);
    ck_assert_uint_eq(recovered.next_seq, 40);
    ck_assert_int_eq(archive_rig_read(&rig, open_name, &bytes), (long)maker.size);
    ck_assert_mem_eq(bytes, maker.bytes, maker.size);
    ck_assert(archive_rig_has(&rig, RIG_CHANNEL "-prepared-1.avro.open"));
    free(bytes);
    log_maker_free(&maker);
}
END_TEST

/* Somebody of an earlier daemon still writes: the file is left alone until he has gone. */
START_TEST(test_segment_that_a_process_still_has)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    archive_rig_make_log(&maker, SEED, 0, 1, open_name, name);
    memcpy(maker.identity.sync, grant.sync, sizeof grant.sync);
    avro_log_write_header(maker.bytes, &maker.identity);
    ck_assert_int_eq(pwrite(fd, maker.bytes, maker.size, 0), (ssize_t)maker.size);
    archive_rig_replace(&rig);
    struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_int_eq(recovered.error, EBUSY);
    ck_assert_ptr_nonnull(strstr(recovered.reason, grant.name));
    ck_assert_int_eq(archive_rig_read(&rig, grant.name, NULL), RIG_SEGMENT);
    fd_close(&fd);
    expect_recovered(1, 20);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_numbers_go_on_behind_the_newest_file)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    for (uint64_t first = 0; first < 300; first += 100) {
        archive_rig_make_log(&maker, SEED, first, 5, open_name, name);
        log_maker_seal(&maker);
        log_maker_write(rig.channel, name, maker.bytes, maker.block_start);
        log_maker_free(&maker);
    }
    expect_recovered(0, 300);
    log_maker_write(rig.channel, RIG_CHANNEL "-00000000000000000900-20260101T000000Z.avro",
                    "rubbish", 7);
    expect_recovered(0,
                     901); /* it can't be read, but its numbers were given, and it may have one */
}
END_TEST

/* A worker that died while it went over to the next segment: uncommitted records behind the old
 * one's end. */
START_TEST(test_records_of_the_next_segment_are_not_kept_twice)
{
    struct log_maker first, second;
    char open_first[SEGMENT_NAME_SIZE], open_second[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&second, SEED, 50, 2, open_second, name);
    log_maker_write(rig.channel, open_second, second.bytes, second.size);
    archive_rig_make_log(&first, SEED, 0, 3, open_first, name); /* 0..59: ten too many */
    log_maker_write(rig.channel, open_first, first.bytes, first.size);
    expect_recovered(2, 90);
    archive_rig_check_sealed(&rig, &first, name, 0, 50);
    folder_number_name(open_second, AVRO_LOG_SUFFIX, 1, name);
    archive_rig_check_sealed(&rig, &second, name, 50, 40);
    log_maker_free(&first);
    log_maker_free(&second);
}
END_TEST

/* The same over several of them, the first of which has one that was given another flag meanwhile:
 * it has killed a worker. */
START_TEST(test_records_of_several_later_segments_are_not_kept_twice)
{
    struct log_maker first, second, third;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&second, SEED, 50, 0, open_name, name);
    for (int i = 0; i < 5; i++) {
        second.other_flags = i == 2 ? AVRO_LOG_QUARANTINED : 0;
        ck_assert(log_maker_append(&second));
    }
    log_maker_write(rig.channel, open_name, second.bytes, second.size);
    archive_rig_make_log(&third, SEED, 55, 2, open_name, name);
    if (_i == 0) {
        log_maker_write(rig.channel, open_name, third.bytes, third.size);
    } else { /* sealed already */
        log_maker_seal(&third);
        log_maker_write(rig.channel, name, third.bytes, third.block_start);
    }
    archive_rig_make_log(&first, SEED, 0, 3, open_name, name); /* 0..59: ten too many */
    log_maker_write(rig.channel, open_name, first.bytes, first.size);
    expect_recovered(_i == 0 ? 3 : 2, 95);
    archive_rig_check_sealed(&rig, &first, name, 0, 50);
    ck_assert_int_eq(archive_rig_count(&rig, ".damaged"), 0);
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"), 3);
    log_maker_free(&first);
    log_maker_free(&second);
    log_maker_free(&third);
}
END_TEST

/* ---- after damage ---- */

START_TEST(test_fault_in_the_middle_keeps_both_sides_and_the_original)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], damaged[SEGMENT_NAME_SIZE];
    uint8_t *bytes;
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name);
    maker.bytes[maker.header_size] ^=
        0xff; /* the first block's header: its records are found one by one */
    maker.bytes[maker.header_size + 2000] ^= 0xff; /* something inside the second or third one */
    maker.bytes[maker.block_start - 1] ^= 0xff;    /* the last sync marker */
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    expect_recovered(1, 100);
    folder_number_name(open_name, AVRO_LOG_DAMAGED_SUFFIX, 1, damaged);
    ck_assert_int_eq(archive_rig_read(&rig, damaged, &bytes), (long)maker.size);
    ck_assert_mem_eq(bytes, maker.bytes, maker.size);
    ck_assert(archive_rig_said(&rig, damaged));
    free(bytes);
    /* What exactly is lost depends on the byte hit: part of one block. */
    ck_assert(archive_rig_said(&rig, " sound records are in "));
    check_sound(&maker, name, 80, 99);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_lost_file_header)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 300, 4, open_name, name);
    memset(maker.bytes, 0, 100);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    expect_recovered(1, 380);
    archive_rig_check_sealed(&rig, &maker, name, 300, 80);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_unreadable_file_is_set_aside)
{
    char open_name[SEGMENT_NAME_SIZE], damaged[SEGMENT_NAME_SIZE];
    avro_log_segment_name(RIG_CHANNEL, 77, 1, open_name);
    folder_number_name(open_name, AVRO_LOG_DAMAGED_SUFFIX, 1, damaged);
    log_maker_write(rig.channel, open_name, "this is no log", 14);
    expect_recovered(0, 79); /* behind what two of the shortest records would be */
    ck_assert_int_eq(archive_rig_read(&rig, damaged, NULL), 14);
}
END_TEST

/* ---- what other files say ---- */

static void expect_whole_beside(const struct log_maker *maker, const char *open_name)
{
    char damaged[SEGMENT_NAME_SIZE];
    uint8_t *bytes;
    folder_number_name(open_name, AVRO_LOG_DAMAGED_SUFFIX, 1, damaged);
    ck_assert_int_eq(archive_rig_read(&rig, damaged, &bytes), (long)maker->size);
    ck_assert_mem_eq(bytes, maker->bytes, maker->size);
    ck_assert(archive_rig_said(&rig, damaged));
    free(bytes);
}

/* Somebody has put an old file there, or its name is wrong: what it doesn't have is not cut off. */
START_TEST(test_a_later_name_alone_cuts_nothing)
{
    struct log_maker other, maker;
    char open_other[SEGMENT_NAME_SIZE], open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    log_maker_begin(&other, RIG_SEGMENT, RIG_CHANNEL, 40, SEED + 1); /* the same numbers only */
    for (int i = 0; i < 20; i++)
        ck_assert(log_maker_append(&other));
    avro_log_segment_name(RIG_CHANNEL, 40, other.identity.created_ns, open_other);
    folder_number_name(open_other, AVRO_LOG_SUFFIX, 1, name);
    log_maker_seal(&other);
    log_maker_write(rig.channel, name, other.bytes, other.block_start);
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name); /* 0..99 */
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    expect_recovered(1, 100);
    archive_rig_check_sealed(&rig, &maker, name, 0, 40);
    expect_whole_beside(&maker, open_name);
    log_maker_free(&maker);
    log_maker_free(&other);
}
END_TEST

/* A header says 1000, the records are 5000 and up, and a file of 2000 is there: not "no record in
 * it". */
START_TEST(test_a_wrong_first_number_removes_nothing)
{
    struct log_maker sealed, maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&sealed, SEED, 2000, 2, open_name, name);
    log_maker_seal(&sealed);
    log_maker_write(rig.channel, name, sealed.bytes, sealed.block_start);
    archive_rig_make_log(&maker, SEED, 5000, 3, open_name, name);
    maker.identity.first_seq = 1000;
    avro_log_write_header(maker.bytes, &maker.identity);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_msg(recovered.error == 0, "%s", recovered.reason);
    ck_assert_uint_eq(recovered.next_seq, 5060); /* which were given */
    expect_whole_beside(&maker, open_name);
    log_maker_free(&maker);
    log_maker_free(&sealed);
}
END_TEST

/* Two that begin at one number, and not the same records. */
START_TEST(test_two_of_one_number_are_both_kept)
{
    struct log_maker first, second;
    char open_name[SEGMENT_NAME_SIZE], another[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&first, SEED, 100, 3, open_name, name);
    log_maker_write(rig.channel, open_name, first.bytes, first.size);
    log_maker_begin(&second, RIG_SEGMENT, RIG_CHANNEL, 100, SEED + 1);
    for (int i = 0; i < 20; i++)
        ck_assert(log_maker_append(&second));
    avro_log_segment_name(RIG_CHANNEL, 100, second.identity.created_ns + 5 * NS_PER_S, another);
    log_maker_write(rig.channel, another, second.bytes, second.size);
    struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_msg(recovered.error == 0, "%s", recovered.reason);
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"), 1);
    ck_assert_int_eq(archive_rig_count(&rig, ".damaged"), 1);
    log_maker_free(&first);
    log_maker_free(&second);
}
END_TEST

START_TEST(test_the_next_number_is_behind_all_of_one_number)
{
    struct log_maker longer, shorter;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&longer, SEED, 1000, 5, open_name, name);
    log_maker_seal(&longer);
    log_maker_write(rig.channel, name, longer.bytes, longer.block_start);
    archive_rig_make_log(&shorter, SEED, 1000, 1, open_name, name);
    log_maker_seal(&shorter);
    folder_number_name(open_name, AVRO_LOG_SUFFIX, 2, name);
    log_maker_write(rig.channel, name, shorter.bytes, shorter.block_start);
    expect_recovered(0, 1100);
    log_maker_free(&longer);
    log_maker_free(&shorter);
}
END_TEST

/* A name is one segment's, and a mended one has the name of its original: also where another file
 * of that name was set aside before, and where recovery is interrupted between the two. */
START_TEST(test_a_copy_and_its_original_have_one_name)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], other[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name);
    log_maker_seal(&maker);
    folder_number_name(open_name, AVRO_LOG_DAMAGED_SUFFIX, 1, other);
    log_maker_write(rig.channel, other, "none of its records", 19);
    folder_number_name(open_name, AVRO_LOG_SUFFIX, 2, name);
    if (_i == 0) { /* without a fault */
        log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    } else if (_i == 1) {
        maker.bytes[maker.header_size] ^= 0xff;
        log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    } else {
        folder_number_name(open_name, AVRO_LOG_MENDING_SUFFIX, 1, other);
        log_maker_write(rig.channel, other, maker.bytes, maker.block_start);
        folder_number_name(open_name, AVRO_LOG_DAMAGED_SUFFIX, 2, other);
        log_maker_write(rig.channel, other, maker.bytes, maker.size);
    }
    expect_recovered(_i == 2 ? 0 : 1, 100);
    archive_rig_check_sealed(&rig, &maker, name, 0, 100);
    folder_number_name(open_name, AVRO_LOG_DAMAGED_SUFFIX, 2, other);
    ck_assert(archive_rig_has(&rig, other) == (_i != 0));
    ck_assert_int_eq(archive_rig_count(&rig, ""), _i == 0 ? 2 : 3);
    log_maker_free(&maker);
}
END_TEST

/* One that was begun and not yet renamed is set aside under the name that it should have had. */
START_TEST(test_the_original_of_a_prepared_one_gets_a_name)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], damaged[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 42, 3, open_name, name);
    maker.bytes[maker.header_size] ^= 0xff;
    log_maker_write(rig.channel, RIG_CHANNEL "-prepared-0123456789abcdef.avro.open", maker.bytes,
                    maker.size);
    expect_recovered(1, 102);
    folder_number_name(open_name, AVRO_LOG_DAMAGED_SUFFIX, 1, damaged);
    archive_rig_check_sealed(&rig, &maker, name, 42, 60);
    ck_assert_int_eq(archive_rig_read(&rig, damaged, NULL), (long)maker.size);
    log_maker_free(&maker);
}
END_TEST

/* The numbers in a file that was set aside were given, and its end may have held some more. */
START_TEST(test_numbers_of_a_file_set_aside_are_not_given_again)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], damaged[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 100, 5, open_name, name);
    folder_number_name(open_name, AVRO_LOG_DAMAGED_SUFFIX, 1, damaged);
    if (_i == 1) /* the last block's first record, so that nothing in it is found */
        maker.bytes[maker.block_start + AVRO_LOG_BLOCK_HEADER_SIZE + 12] ^= 1;
    log_maker_write(rig.channel, damaged, maker.bytes, maker.size);
    struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_int_eq(recovered.error, 0);
    ck_assert_msg(recovered.next_seq >= 200, "%llu was given already",
                  (unsigned long long)recovered.next_seq);
    if (_i == 0)
        ck_assert_uint_eq(recovered.next_seq, 200);
    log_maker_free(&maker);
}
END_TEST

/* ---- interrupted recoveries ---- */

START_TEST(test_a_copy_of_nothing_is_no_obstacle)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], mending[SEGMENT_NAME_SIZE];
    avro_log_segment_name(RIG_CHANNEL, 7, 1, open_name);
    folder_number_name(open_name, AVRO_LOG_MENDING_SUFFIX, 1, mending);
    log_maker_write(rig.channel, mending, "", 0); /* and its original is not there */
    archive_rig_make_log(&maker, SEED, 100, 2, open_name, name);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    expect_recovered(1, 140);
    archive_rig_check_sealed(&rig, &maker, name, 100, 40);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_unfinished_copy_is_made_again)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], mending[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name);
    folder_number_name(open_name, AVRO_LOG_MENDING_SUFFIX, 1, mending);
    maker.bytes[maker.header_size] ^= 0xff;
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    log_maker_write(rig.channel, mending, maker.bytes, 3000);
    expect_recovered(1, 100);
    archive_rig_check_sealed(&rig, &maker, name, 0, 100);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_finished_copy_gets_its_name)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], other[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name);
    log_maker_seal(&maker);
    folder_number_name(open_name, AVRO_LOG_MENDING_SUFFIX, 1, other);
    log_maker_write(rig.channel, other, maker.bytes, maker.block_start);
    folder_number_name(open_name, AVRO_LOG_DAMAGED_SUFFIX, 1, other);
    log_maker_write(rig.channel, other, maker.bytes, maker.size);
    expect_recovered(0, 100);
    archive_rig_check_sealed(&rig, &maker, name, 0, 100);
    ck_assert(archive_rig_has(&rig, other));
    log_maker_free(&maker);
}
END_TEST

/* In place: the sync marker is on the disk already, or the header too, or the file is cut off and
 * not yet renamed. */
START_TEST(test_interrupted_in_place)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 0, 3, open_name, name);
    size_t end = maker.write_offset;
    if (_i == 0)
        memcpy(maker.bytes + end, maker.identity.sync, AVRO_LOG_SYNC_SIZE);
    else if (_i == 1)
        avro_log_write_block_header(maker.bytes + maker.block_start,
                                    20, /* the header alone reached the disk */
                                    end - maker.block_start - AVRO_LOG_BLOCK_HEADER_SIZE);
    else
        log_maker_seal(&maker);
    log_maker_write(rig.channel, open_name, maker.bytes,
                    _i == 3   ? end + AVRO_LOG_SYNC_SIZE
                    : _i == 4 ? end
                              : maker.size);
    expect_recovered(1, 60);
    archive_rig_check_sealed(&rig, &maker, name, 0, 60);
    log_maker_free(&maker);
}
END_TEST

static TCase *new_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int main(void)
{
    Suite *suite = suite_create("archive_recovery");
    TCase *crash = new_case(suite, "after a crash");
    tcase_add_test(crash, test_no_folder_and_an_empty_one);
    tcase_add_test(crash, test_open_segment_is_finished);
    tcase_add_test(crash, test_segment_without_records_is_removed);
    tcase_add_test(crash, test_segment_without_records_is_kept_for_its_number);
    tcase_add_test(crash, test_begun_but_not_renamed_gets_its_name);
    tcase_add_test(crash, test_kept_segments_stay_as_they_are);
    tcase_add_test(crash, test_segment_that_a_process_still_has);
    tcase_add_test(crash, test_numbers_go_on_behind_the_newest_file);
    tcase_add_test(crash, test_records_of_the_next_segment_are_not_kept_twice);
    tcase_add_loop_test(crash, test_records_of_several_later_segments_are_not_kept_twice, 0, 2);
    TCase *damage = new_case(suite, "after damage");
    tcase_add_test(damage, test_fault_in_the_middle_keeps_both_sides_and_the_original);
    tcase_add_test(damage, test_lost_file_header);
    tcase_add_test(damage, test_unreadable_file_is_set_aside);
    tcase_add_loop_test(damage, test_a_copy_and_its_original_have_one_name, 0, 3);
    tcase_add_test(damage, test_the_original_of_a_prepared_one_gets_a_name);
    tcase_add_loop_test(damage, test_numbers_of_a_file_set_aside_are_not_given_again, 0, 2);
    tcase_add_test(damage, test_a_later_name_alone_cuts_nothing);
    tcase_add_test(damage, test_a_wrong_first_number_removes_nothing);
    tcase_add_test(damage, test_two_of_one_number_are_both_kept);
    tcase_add_test(damage, test_the_next_number_is_behind_all_of_one_number);
    TCase *again = new_case(suite, "interrupted recoveries");
    tcase_add_test(again, test_unfinished_copy_is_made_again);
    tcase_add_test(again, test_a_copy_of_nothing_is_no_obstacle);
    tcase_add_test(again, test_finished_copy_gets_its_name);
    tcase_add_loop_test(again, test_interrupted_in_place, 0, 5);
    return log_maker_run(suite);
}
