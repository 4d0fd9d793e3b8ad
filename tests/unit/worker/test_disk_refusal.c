/* SPDX-License-Identifier: MIT */
/* A disk refuses part of a log file: the kernel says so once, to one process, and then to all that
 * everything is written. Whoever was told may have ended before the records are in another file;
 * whoever comes next has them copied all the same, and says of none of them that it is durable. The
 * kernel's part is played by fsync(2) and fdatasync(2) as this program has them. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "common/disk_refusal.h"
#include "common/fd.h"
#include "common/message.h"
#include "tests/lib/archive_rig.h"
#include "tests/lib/log_maker.h"
#include "worker/archive/durable.h"
#include "worker/archive/recovery.h"
#include "worker/archive/seal.h"
#include "worker/channel/segment.h"

#define RECORDS  100
#define FOR_GOOD 1000

static int refusals;      /* so many times from now on */
static int refusal = EIO; /* as the kernel says it */

static int sync_file(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || refusals == 0)
        return 0;
    refusals--;
    errno = refusal;
    return -1;
}

int fsync(int fd)
{
    return sync_file(fd);
}

int fdatasync(int fd)
{
    return sync_file(fd);
}

/* ---- a folder with one segment ---- */

static char base[64], folder[128], open_name[SEGMENT_NAME_SIZE], sealed_name[SEGMENT_NAME_SIZE];
static uint64_t length, id;
static uint32_t left; /* by the last recovery */
static const char *const suffixes[] = {AVRO_LOG_OPEN_SUFFIX, AVRO_LOG_MENDING_SUFFIX,
                                       AVRO_LOG_DAMAGED_SUFFIX};

static const char *path_of(const char *name)
{
    static char path[sizeof folder + SEGMENT_NAME_SIZE];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static uint64_t inode_of(const char *name)
{
    struct stat status;
    return stat(path_of(name), &status) == 0 ? status.st_ino : 0;
}

static void set_up(void)
{
    struct log_maker maker;
    refusals = 0;
    refusal = EIO;
    log_maker_folder(base);
    snprintf(folder, sizeof folder, "%s/" RIG_CHANNEL, base);
    ck_assert_int_eq(mkdir(folder, 0755), 0);
    archive_rig_make_log(&maker, 7, 0, 5, open_name, sealed_name);
    log_maker_seal(&maker);
    log_maker_write(folder, open_name, maker.bytes, maker.size);
    length = maker.block_start;
    id = inode_of(open_name);
    log_maker_free(&maker);
}

static void tear_down(void)
{
    log_maker_remove_folder(base);
}

static int recover(void)
{
    const struct message_recover request = {.channel = RIG_CHANNEL};
    struct message_recovered recovered;
    recovery_run(base, &request, &recovered);
    left = recovered.left;
    return recovered.error;
}

/* As a supervisor asks that knows of no refusal. */
static int seal(void)
{
    struct message_seal request = {.channel = RIG_CHANNEL, .id = id, .length = length};
    struct message_sealed sealed;
    memcpy(request.name, open_name, sizeof open_name);
    seal_run(base, &request, &sealed);
    return sealed.error;
}

static struct message_synced make_durable(void)
{
    const struct message_sync request = {.channel = RIG_CHANNEL, .id = {id}};
    struct message_synced synced;
    durable_make(base, &request, &synced);
    return synced;
}

static void expect_open(void)
{
    ck_assert_uint_eq(inode_of(open_name), id);
    ck_assert_uint_eq(inode_of(sealed_name), 0);
}

/* All records are in another file, and nothing else is left. */
static void expect_copied(void)
{
    const struct avro_log_scan_options sealed = {.seq_end = UINT64_MAX};
    struct avro_log_summary summary;
    char name[SEGMENT_NAME_SIZE];
    int fd = open(path_of(sealed_name), O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "there is no %s", sealed_name);
    ck_assert_int_eq(avro_log_scan(fd, &sealed, NULL, &summary), 0);
    ck_assert_uint_eq(summary.records, RECORDS);
    ck_assert_uint_eq(summary.faults, 0);
    ck_assert_uint_ne(inode_of(sealed_name), id);
    ck_assert_msg(!disk_refusal_is_noted(fd), "it would be copied for ever");
    fd_close(&fd);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(name, sizeof name, "%.*s%s", (int)(strlen(sealed_name) - strlen(AVRO_LOG_SUFFIX)),
                 sealed_name, suffixes[i]);
        ck_assert_msg(inode_of(name) == 0, "%s is left", name);
    }
}

/* ---- the archive ---- */

START_TEST(a_recovery_that_is_told_copies)
{
    refusals = 1;
    ck_assert_int_eq(recover(), 0);
    expect_copied();
}
END_TEST

/* The disk takes nothing yet; then it does, and another process asks. */
START_TEST(a_recovery_after_the_one_that_was_told_copies)
{
    refusal = _i ? ENOSPC : EIO;
    refusals = FOR_GOOD;
    ck_assert_int_eq(recover(), 0);
    expect_open();
    ck_assert_uint_eq(left, 1);
    refusals = 0;
    ck_assert_int_eq(recover(), 0);
    expect_copied();
    ck_assert_uint_eq(left, 0);
}
END_TEST

START_TEST(a_seal_that_was_told_is_followed_by_a_copy)
{
    refusals = FOR_GOOD;
    ck_assert_int_eq(seal(), EIO);
    expect_open();
    refusals = 0;
    ck_assert_int_eq(_i ? recover() : seal(), 0);
    expect_copied();
}
END_TEST

/* While no worker is there, and once more; then it is sealed by one who was not there. */
START_TEST(what_was_refused_never_becomes_durable)
{
    ck_assert_int_eq(make_durable().error, 0);
    refusals = 1;
    for (int i = 0; i < 2; i++) {
        struct message_synced synced = make_durable();
        ck_assert(synced.error && synced.refused);
    }
    ck_assert_int_eq(_i ? recover() : seal(), 0);
    expect_copied();
}
END_TEST

/* ---- a worker ---- */

static struct segment *open_as_worker(const char *name)
{
    struct segment_grant grant = {.id = id, .size = length};
    int error, fd = open(path_of(name), O_RDWR | O_CLOEXEC);
    memcpy(grant.name, open_name, sizeof open_name);
    struct segment *segment = segment_open(&fd, &grant, &error);
    ck_assert_ptr_nonnull(segment);
    return segment;
}

static void sync_as_worker(const char *name, int expected)
{
    struct segment *segment = open_as_worker(name);
    ck_assert_int_eq(segment_sync(segment, length), expected);
    segment_release(&segment);
}

/* It ends before its supervisor has heard of it; so does that one, or not. */
START_TEST(what_a_worker_was_told_its_successor_and_the_archive_know)
{
    refusals = 1;
    sync_as_worker(open_name, -EIO);
    sync_as_worker(open_name, -EIO);
    ck_assert_int_eq(_i ? recover() : seal(), 0);
    expect_copied();
}
END_TEST

/* Left by its worker, which still has it. The disk takes no copy at first. */
START_TEST(a_sealed_segment_that_the_disk_refuses_is_copied_by_the_next_start)
{
    ck_assert_int_eq(seal(), 0);
    ck_assert_uint_eq(inode_of(sealed_name), id);
    refusals = FOR_GOOD;
    sync_as_worker(sealed_name, -EIO);
    ck_assert_int_eq(recover(), 0);
    ck_assert_uint_eq(inode_of(sealed_name), id);
    refusals = 0;
    ck_assert_int_eq(recover(), 0);
    expect_copied();
}
END_TEST

START_TEST(permissions_stay)
{
    struct stat status;
    ck_assert_int_eq(chmod(path_of(open_name), 0604), 0);
    int fd = open(path_of(open_name), O_RDONLY | O_CLOEXEC);
    ck_assert(!disk_refusal_is_noted(fd));
    disk_refusal_note(fd);
    ck_assert(disk_refusal_is_noted(fd));
    ck_assert(fstat(fd, &status) == 0 && (status.st_mode & 0777) == 0604);
    fd_close(&fd);
    fd = open(base, O_RDONLY | O_CLOEXEC); /* log_dir may be below one like /tmp */
    ck_assert(fchmod(fd, 01700) == 0 && !disk_refusal_is_noted(fd));
    fd_close(&fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk_refusal");
    TCase *tcase = tcase_create("refused");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_recovery_that_is_told_copies);
    tcase_add_loop_test(tcase, a_recovery_after_the_one_that_was_told_copies, 0, 2);
    tcase_add_loop_test(tcase, a_seal_that_was_told_is_followed_by_a_copy, 0, 2);
    tcase_add_loop_test(tcase, what_was_refused_never_becomes_durable, 0, 2);
    tcase_add_loop_test(tcase, what_a_worker_was_told_its_successor_and_the_archive_know, 0, 2);
    tcase_add_test(tcase, a_sealed_segment_that_the_disk_refuses_is_copied_by_the_next_start);
    tcase_add_test(tcase, permissions_stay);
    suite_add_tcase(suite, tcase);
    return log_maker_run(suite);
}
