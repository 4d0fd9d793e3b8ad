/* SPDX-License-Identifier: MIT */
/* The archive on file systems and machines that don't do what is usual. First those that know no
 * rename which replaces nothing; always: no file is overwritten, and each ends with one name. Then
 * segments that can be told from others only by what they are. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/fd.h"
#include "tests/lib/archive_rig.h"
#include "tests/lib/unit.h"
#include "worker/archive/file_lock.h"
#include "worker/archive/folder.h"
#include "worker/archive/strays.h"

#define SEGMENT (256 * 1024)
#define SEED    99

static struct archive_rig rig;

static void setup(void)
{
    archive_rig_prepare(&rig);
}

static void teardown(void)
{
    archive_rig_end(&rig);
}

/* As on NFS, where rename knows no flags; in the second round there are no links either. */
static void start_without_noreplace(int round)
{
    rig.without_noreplace = true;
    rig.without_links = round == 1;
    archive_rig_start(&rig);
}

/* A segment with `records` records, the last block sealed, in the archive's own file. */
static struct segment_grant make_segment(struct log_maker *maker, uint64_t first_seq, int records,
                                         char ret_open[SEGMENT_NAME_SIZE])
{
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, SEGMENT, &fd);
    log_maker_begin(maker, SEGMENT, RIG_CHANNEL, first_seq, SEED);
    memcpy(maker->identity.sync, grant.sync, sizeof grant.sync);
    avro_log_write_header(maker->bytes, &maker->identity);
    for (int i = 0; i < records; i++)
        ck_assert(log_maker_append(maker));
    log_maker_seal(maker);
    ck_assert_int_eq(pwrite(fd, maker->bytes, maker->size, 0), (ssize_t)maker->size);
    fd_close(&fd);
    avro_log_segment_name(RIG_CHANNEL, first_seq, maker->identity.created_ns, ret_open);
    return grant;
}

static void link_too(const char *name, const char *too)
{
    char path[sizeof rig.channel + SEGMENT_NAME_SIZE], path_too[sizeof path];
    snprintf(path, sizeof path, "%s/%s", rig.channel, name);
    snprintf(path_too, sizeof path_too, "%s/%s", rig.channel, too);
    ck_assert_int_eq(link(path, path_too), 0);
}

/* ---- names ---- */

START_TEST(test_two_segments_of_one_name_both_stay)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    start_without_noreplace(_i);
    for (int n = 1; n <= 2; n++) {
        struct segment_grant grant = make_segment(&maker, 3, 10 + n, open_name);
        archive_rig_begin(&rig, grant.name, open_name);
        struct message_sealed sealed =
            archive_rig_seal(&rig, open_name, grant.id, maker.block_start);
        ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
        folder_number_name(open_name, AVRO_LOG_SUFFIX, n, name);
        ck_assert_str_eq(sealed.name, name);
        ck_assert_int_eq(archive_rig_count(&rig, ""), n);
        log_maker_free(&maker);
    }
    archive_rig_check_sealed(&rig, &maker, name, 3, 12);
    folder_number_name(open_name, AVRO_LOG_SUFFIX, 1, name);
    archive_rig_check_sealed(&rig, &maker, name, 3, 11);
}
END_TEST

/* Killed between the second name and the end of the first: a request that is repeated, or
 * recovery, finishes it. */
START_TEST(test_a_segment_with_two_names_gets_one)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    start_without_noreplace(0);
    struct segment_grant grant = make_segment(&maker, 500, 30, open_name);
    folder_number_name(open_name, AVRO_LOG_SUFFIX, 1, name);
    link_too(grant.name, open_name);
    archive_rig_begin(&rig, grant.name, open_name);
    archive_rig_expire(&rig, &(struct message_expire){.channel = RIG_CHANNEL}); /* it is done */
    ck_assert(archive_rig_has(&rig, open_name) && !archive_rig_has(&rig, grant.name));
    link_too(open_name, name);
    int error = _i == 0 ? archive_rig_seal(&rig, open_name, grant.id, maker.block_start).error
                        : archive_rig_recover(&rig, NULL, NULL).error;
    ck_assert_int_eq(error, 0);
    archive_rig_check_sealed(&rig, &maker, name, 500, 30);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
    log_maker_free(&maker);
}
END_TEST

/* The same in BEGIN: it is one segment, also where it has to be mended, or is sealed by now. */
START_TEST(test_recovery_finds_one_segment_under_two_names)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    start_without_noreplace(0);
    archive_rig_make_folder(&rig);
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name);
    if (_i == 1)
        maker.bytes[maker.header_size + 70] ^= 1;
    log_maker_seal(&maker);
    const char *begun = _i == 2 ? name : open_name;
    log_maker_write(rig.channel, begun, maker.bytes, _i == 2 ? maker.block_start : maker.size);
    link_too(begun, RIG_CHANNEL "-prepared-0123456789abcdef.avro.open");
    struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_int_eq(recovered.error, 0);
    ck_assert_uint_eq(recovered.next_seq, 100);
    archive_rig_check_sealed(&rig, &maker, name, _i == 1, _i == 1 ? 99 : 100);
    ck_assert_int_eq(archive_rig_count(&rig, ".damaged"), _i == 1);
    ck_assert_int_eq(archive_rig_count(&rig, ""), _i == 1 ? 2 : 1);
    log_maker_free(&maker);
}
END_TEST

/* ---- which file is meant ---- */

static void flip(const char *name, off_t at)
{
    char path[512];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", rig.channel, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert(pread(fd, &byte, 1, at) == 1);
    byte ^= 0xff;
    ck_assert(pwrite(fd, &byte, 1, at) == 1);
    fd_close(&fd);
}

/* It was begun and could not be given its name, and its header is damaged: only its number tells
 * that it is there. "Nothing was in it, it is removed" would be wrong, and so would be the other
 * file of that name. */
START_TEST(test_sealed_is_only_what_is_not_open_any_more)
{
    struct log_maker other, maker;
    char open_name[SEGMENT_NAME_SIZE];
    archive_rig_start(&rig);
    if (_i == 1) { /* sealed, and of the same name */
        struct segment_grant first = make_segment(&other, 500, 2, open_name);
        archive_rig_begin(&rig, first.name, open_name);
        ck_assert_int_eq(archive_rig_seal(&rig, open_name, first.id, other.block_start).error, 0);
        log_maker_free(&other);
    }
    struct segment_grant grant = make_segment(&maker, 500, 30, open_name);
    flip(grant.name, 20);
    struct message_sealed sealed = archive_rig_seal(&rig, open_name, grant.id, UINT64_MAX);
    ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
    ck_assert_msg(!archive_rig_has(&rig, grant.name), "it is said to be sealed, and is open");
    archive_rig_check_sealed(&rig, &maker, sealed.name, 500, 30);
    log_maker_free(&maker);
}
END_TEST

/* The same while somebody has the file: it may be the next one, whose number is the same. */
START_TEST(test_what_is_in_use_is_not_sealed_for_its_number)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], path[512];
    archive_rig_start(&rig);
    struct segment_grant grant = make_segment(&maker, 500, 30, open_name);
    flip(grant.name, 20);
    snprintf(path, sizeof path, "%s/%s", rig.channel, grant.name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 10000 && file_lock_mark_writer(fd) != 0; i++)
        usleep(1000); /* until the archive has let go of it */
    ck_assert_int_eq(file_lock_mark_writer(fd), 0);
    ck_assert_int_eq(archive_rig_seal(&rig, open_name, grant.id, UINT64_MAX).error, EBUSY);
    ck_assert(archive_rig_has(&rig, grant.name));
    fd_close(&fd);
    ck_assert_int_eq(archive_rig_seal(&rig, open_name, grant.id, UINT64_MAX).error, 0);
    ck_assert(!archive_rig_has(&rig, grant.name));
    log_maker_free(&maker);
}
END_TEST

/* Two were begun at one number in one second, and the first is not sealed yet. */
START_TEST(test_a_name_that_another_one_has_hides_nothing)
{
    struct log_maker first, second;
    char open_name[SEGMENT_NAME_SIZE];
    archive_rig_start(&rig);
    struct segment_grant one = make_segment(&first, 500, 3, open_name);
    archive_rig_begin(&rig, one.name, open_name);
    struct segment_grant two = make_segment(&second, 500, 4, open_name);
    archive_rig_begin(&rig, two.name, open_name);
    struct message_sealed sealed = archive_rig_seal(&rig, open_name, two.id, second.block_start);
    ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
    archive_rig_check_sealed(&rig, &second, sealed.name, 500, 4);
    ck_assert(archive_rig_has(&rig, open_name));
    sealed = archive_rig_seal(&rig, open_name, two.id, second.block_start); /* asked again */
    ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
    sealed = archive_rig_seal(&rig, open_name, one.id, first.block_start);
    ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
    archive_rig_check_sealed(&rig, &first, sealed.name, 500, 3);
    log_maker_free(&first);
    log_maker_free(&second);
}
END_TEST

/* By a sweep, of a channel that the configuration has no more, or by what an archive before this
 * one has left: both would mend one file. */
START_TEST(test_no_segment_is_sealed_while_its_folder_is_recovered)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], path[sizeof rig.channel + 8];
    archive_rig_start(&rig);
    archive_rig_make_folder(&rig);
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name);
    log_maker_seal(&maker);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    snprintf(path, sizeof path, "%s/.lock", rig.channel);
    int lock = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_eq(file_lock_wait(lock, 0), 0);
    uint64_t id = archive_rig_inode(&rig, open_name);
    ck_assert_int_eq(archive_rig_seal(&rig, open_name, id, maker.block_start).error, EBUSY);
    ck_assert_int_eq(archive_rig_read(&rig, open_name, NULL), (long)maker.size);
    fd_close(&lock);
    ck_assert_int_eq(archive_rig_seal(&rig, open_name, id, maker.block_start).error, 0);
    archive_rig_check_sealed(&rig, &maker, name, 0, 100);
    log_maker_free(&maker);
}
END_TEST

/* ---- copies that are left ---- */

/* Of a channel that is gone: only the complete copy is left of a mend that was interrupted. */
START_TEST(test_a_stray_copy_gets_its_name)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], copy[SEGMENT_NAME_SIZE],
        damaged[SEGMENT_NAME_SIZE];
    archive_rig_start(&rig);
    archive_rig_make_folder(&rig);
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name);
    folder_number_name(open_name, AVRO_LOG_MENDING_SUFFIX, 1, copy);
    folder_number_name(open_name, AVRO_LOG_DAMAGED_SUFFIX, 1, damaged);
    log_maker_seal(&maker);
    log_maker_write(rig.channel, copy, maker.bytes, maker.block_start);
    log_maker_write(rig.channel, damaged, maker.bytes, maker.size);
    strays_note_channel("other");
    strays_sweep(rig.log_dir);
    archive_rig_check_sealed(&rig, &maker, name, 0, 100);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 2);
    log_maker_free(&maker);
}
END_TEST

/* As an earlier version left them: what could not be set aside was sealed as it was. */
START_TEST(test_a_copy_of_what_was_sealed_is_no_second_segment)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], copy[SEGMENT_NAME_SIZE];
    archive_rig_start(&rig);
    archive_rig_make_folder(&rig);
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, name);
    folder_number_name(open_name, AVRO_LOG_MENDING_SUFFIX, 1, copy);
    log_maker_seal(&maker);
    log_maker_write(rig.channel, name, maker.bytes, maker.block_start);
    log_maker_write(rig.channel, copy, maker.bytes, _i == 0 ? maker.block_start : 0);
    struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_int_eq(recovered.error, 0);
    ck_assert_uint_eq(recovered.next_seq, 100);
    archive_rig_check_sealed(&rig, &maker, name, 0, 100);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
    log_maker_free(&maker);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("archive_odd");
    TCase *names = tcase_create("names");
    tcase_set_timeout(names, 60);
    tcase_add_checked_fixture(names, setup, teardown);
    tcase_add_loop_test(names, test_two_segments_of_one_name_both_stay, 0, 2);
    tcase_add_loop_test(names, test_a_segment_with_two_names_gets_one, 0, 2);
    tcase_add_loop_test(names, test_recovery_finds_one_segment_under_two_names, 0, 3);
    suite_add_tcase(suite, names);
    TCase *meant = tcase_create("which file is meant");
    tcase_set_timeout(meant, 60);
    tcase_add_checked_fixture(meant, setup, teardown);
    tcase_add_loop_test(meant, test_sealed_is_only_what_is_not_open_any_more, 0, 2);
    tcase_add_test(meant, test_what_is_in_use_is_not_sealed_for_its_number);
    tcase_add_test(meant, test_a_name_that_another_one_has_hides_nothing);
    tcase_add_test(meant, test_no_segment_is_sealed_while_its_folder_is_recovered);
    suite_add_tcase(suite, meant);
    TCase *copies = tcase_create("copies that are left");
    tcase_set_timeout(copies, 60);
    tcase_add_checked_fixture(copies, setup, teardown);
    tcase_add_test(copies, test_a_stray_copy_gets_its_name);
    tcase_add_loop_test(copies, test_a_copy_of_what_was_sealed_is_no_second_segment, 0, 2);
    suite_add_tcase(suite, copies);
    return log_maker_run(suite);
}
