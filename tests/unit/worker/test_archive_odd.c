/* SPDX-License-Identifier: MIT */
/* The archive on file systems and machines that don't do what is usual. First those that know no
 * rename which replaces nothing; always: no file is overwritten, and each ends with one name. */
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
#include "worker/archive/folder.h"

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

int main(void)
{
    Suite *suite = suite_create("archive_odd");
    TCase *names = tcase_create("names");
    tcase_set_timeout(names, 60);
    tcase_add_checked_fixture(names, setup, teardown);
    tcase_add_loop_test(names, test_two_segments_of_one_name_both_stay, 0, 2);
    tcase_add_loop_test(names, test_a_segment_with_two_names_gets_one, 0, 2);
    suite_add_tcase(suite, names);
    return log_maker_run(suite);
}
