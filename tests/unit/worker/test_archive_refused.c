/* SPDX-License-Identifier: MIT */
/* Recovery beside a disk that reads and does not write: no segment is taken for one that can't be
 * read, nothing is cut off, and once the disk takes it all records are sealed. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "common/avro_log_name.h"
#include "tests/lib/archive_rig.h"
#include "tests/lib/deny_call.h"
#include "tests/lib/log_maker.h"

#define SEED 99

static struct archive_rig rig;

static const long calls[] = {SYS_pwrite64, SYS_fsync, SYS_renameat2, SYS_ftruncate};

static void teardown(void)
{
    archive_rig_end(&rig);
}

static void recover(void)
{
    struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_msg(recovered.error == 0, "%s", recovered.reason);
    ck_assert_uint_eq(recovered.next_seq, 60);
    ck_assert_int_eq(archive_rig_count(&rig, AVRO_LOG_MENDING_SUFFIX), 0);
    ck_assert_int_eq(archive_rig_count(&rig, AVRO_LOG_DAMAGED_SUFFIX), 0);
}

START_TEST(test_a_disk_that_does_not_write)
{
    const struct denied_call denied = {
        .number = calls[_i], .error = EIO, .argument = DENY_ANY_ARGUMENT};
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_prepare(&rig);
    rig.denied = &denied;
    archive_rig_start(&rig);
    archive_rig_make_folder(&rig);
    archive_rig_make_log(&maker, SEED, 0, 3, open_name, name);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    recover();
    if (calls[_i] == SYS_fsync || calls[_i] == SYS_pwrite64)
        ck_assert_int_eq(archive_rig_read(&rig, open_name, NULL), (long)maker.size);
    rig.denied = NULL;
    archive_rig_replace(&rig);
    recover();
    archive_rig_check_sealed(&rig, &maker, name, 0, 60);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
    log_maker_free(&maker);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("archive_refused");
    TCase *tests = tcase_create("everything");
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_a_disk_that_does_not_write, 0,
                        (int)(sizeof calls / sizeof *calls));
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
