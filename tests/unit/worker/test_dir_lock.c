/* SPDX-License-Identifier: MIT */
/* Whose log_dir is it? First one archive and its successors, then two that want the same folder,
 * then a folder whose file system goes away under the archive and comes back. Always: whoever is
 * refused has changed nothing and says whom to ask. */
#include "worker/archive/dir_lock.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "common/fd.h"
#include "tests/lib/archive_rig.h"
#include "tests/lib/unit.h"
#include "worker/archive/file_lock.h"

#define SEGMENT (256 * 1024)
#define MENDED  (32 * 1024 * 1024)
#define SEED    99

static struct archive_rig rig, other;

static void setup(void)
{
    archive_rig_prepare(&rig);
    archive_rig_start(&rig);
}

static void teardown(void)
{
    archive_rig_end(&rig);
}

/* A second archive on the first one's folder, of a daemon that knows nothing of the first. */
static void start_other(void)
{
    archive_rig_prepare(&other);
    snprintf(other.log_dir, sizeof other.log_dir, "%s", rig.log_dir);
    snprintf(other.channel, sizeof other.channel, "%s", rig.channel);
    archive_rig_start(&other);
}

static int ask_for_segment(struct archive_rig *of, char ret_reason[MESSAGE_REASON_SIZE])
{
    struct message_open_segment request = {.channel = RIG_CHANNEL, .size = SEGMENT};
    archive_rig_send(of, MESSAGE_OPEN_SEGMENT, &request, sizeof request);
    const struct message_segment *answer = archive_rig_receive(of, MESSAGE_SEGMENT)->segment;
    snprintf(ret_reason, MESSAGE_REASON_SIZE, "%s", answer->reason);
    return answer->error;
}

/* Archives come and go; it works as soon as its turn has come. */
static void expect_segment(struct archive_rig *of)
{
    int fd;
    archive_rig_open(of, RIG_CHANNEL, SEGMENT, &fd);
    fd_close(&fd);
}

static void expect_refused(struct archive_rig *of, const char *whom)
{
    char reason[MESSAGE_REASON_SIZE];
    ck_assert_int_eq(ask_for_segment(of, reason), EBUSY);
    ck_assert_msg(strstr(reason, whom) && strstr(reason, of->log_dir), "\"%s\" names no %s", reason,
                  whom);
    ck_assert_int_eq(of->log_dir_error, EBUSY);
}

START_TEST(test_the_lock_says_whose_it_is)
{
    char path[256], text[64] = "", expected[64];
    expect_segment(&rig);
    ck_assert_int_ge(rig.lock, 0);
    snprintf(path, sizeof path, "%s/" DIR_LOCK_NAME, rig.log_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_gt(read(fd, text, sizeof text - 1), 0);
    fd_close(&fd);
    snprintf(expected, sizeof expected, "holdfastd %d archive %d\n", (int)getpid(), (int)rig.pid);
    ck_assert_str_eq(text, expected);
}
END_TEST

START_TEST(test_a_second_daemon_touches_nothing)
{
    struct log_maker maker;
    char name[SEGMENT_NAME_SIZE], pid[32];
    expect_segment(&rig);
    log_maker_begin(&maker, SEGMENT, RIG_CHANNEL, 10, SEED);
    ck_assert(log_maker_append(&maker));
    avro_log_segment_name(RIG_CHANNEL, 10, maker.identity.created_ns, name);
    log_maker_write(rig.channel, name, maker.bytes, maker.size);

    start_other();
    snprintf(pid, sizeof pid, "(pid %d)", (int)getpid());
    expect_refused(&other, pid);
    struct message_recovered recovered = archive_rig_recover(&other, NULL, NULL);
    ck_assert_int_eq(recovered.error, EBUSY);
    ck_assert_msg(strstr(recovered.reason, pid) != NULL, "%s", recovered.reason);
    struct message_sealed sealed =
        archive_rig_seal(&other, name, archive_rig_inode(&rig, name), UINT64_MAX);
    ck_assert_int_eq(sealed.error, EBUSY);
    ck_assert(archive_rig_has(&rig, name));
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"), 0);

    expect_segment(&rig); /* and the first one is not disturbed */
    archive_rig_end(&other);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_the_supervisor_keeps_it_between_two_archives)
{
    expect_segment(&rig);
    kill(rig.pid, SIGKILL);
    ck_assert_int_eq(archive_rig_wait(&rig), -1);
    start_other();
    expect_refused(&other, "pid");
    rig.pid = 0;
    archive_rig_replace(&rig);
    expect_segment(&rig);
    expect_refused(&other, "pid");

    fd_close(&rig.lock); /* the daemon ends, and then its archive */
    fd_close(&rig.socket);
    ck_assert_int_eq(archive_rig_wait(&rig), 0);
    expect_segment(&other);
    archive_rig_end(&other);
}
END_TEST

START_TEST(test_an_archive_that_outlives_its_supervisor)
{
    expect_segment(&rig);
    kill(rig.pid, SIGSTOP);
    fd_close(&rig.lock);
    fd_close(&rig.socket);
    start_other();
    expect_refused(&other, "pid");
    kill(rig.pid, SIGCONT);
    ck_assert_int_eq(archive_rig_wait(&rig), 0);
    expect_segment(&other);
    archive_rig_end(&other);
}
END_TEST

START_TEST(test_a_removed_folder_is_made_anew)
{
    expect_segment(&rig);
    log_maker_remove_folder(rig.log_dir);
    expect_segment(&rig);
    start_other();
    expect_refused(&other, "pid");
    archive_rig_end(&other);
}
END_TEST

/* ---- the segments' own locks ---- */

/* Stop the archive as soon as the copy of a file is begun in the channel's folder. */
static void stop_at_copy(int watch)
{
    char events[4096];
    int status;
    bool begun = false;
    while (!begun) {
        ssize_t size = read(watch, events, sizeof events);
        ck_assert_int_gt(size, 0);
        begun = memmem(events, (size_t)size, AVRO_LOG_MENDING_SUFFIX,
                       strlen(AVRO_LOG_MENDING_SUFFIX)) != NULL;
    }
    kill(rig.pid, SIGSTOP);
    ck_assert_int_eq(waitpid(rig.pid, &status, WUNTRACED), rig.pid);
    ck_assert(WIFSTOPPED(status));
}

static int watch_channel(void)
{
    int watch = inotify_init1(IN_CLOEXEC);
    ck_assert_int_ge(watch, 0);
    ck_assert_int_ge(inotify_add_watch(watch, rig.channel, IN_CREATE), 0);
    return watch;
}

/* Whoever looks at the file while it is being mended finds it taken: also an earlier version's
 * archive, which doesn't know log_dir's lock. */
START_TEST(test_a_file_is_locked_while_it_is_mended)
{
    const struct message_recover recover = {.channel = RIG_CHANNEL};
    struct log_maker maker;
    char name[SEGMENT_NAME_SIZE], path[512];
    expect_segment(&rig); /* makes the folder */
    log_maker_begin(&maker, MENDED, RIG_CHANNEL, 10, SEED);
    for (int block = 0; block < 600; block++) {
        log_maker_seal(&maker);
        for (int i = 0; i < 200; i++)
            ck_assert(log_maker_append(&maker));
    }
    maker.bytes[maker.header_size + 2000] ^= 0xff;
    avro_log_segment_name(RIG_CHANNEL, 10, maker.identity.created_ns, name);
    log_maker_write(rig.channel, name, maker.bytes, maker.size);

    int watch = watch_channel();
    archive_rig_send(&rig, MESSAGE_RECOVER, &recover, sizeof recover);
    stop_at_copy(watch);
    snprintf(path, sizeof path, "%s/%s", rig.channel, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "the copy was complete before the archive could be stopped");
    ck_assert_int_lt(file_lock_mark_writer(fd), 0);
    ck_assert(flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    kill(rig.pid, SIGCONT);
    ck_assert_int_eq(archive_rig_receive(&rig, MESSAGE_RECOVERED)->recovered->error, 0);
    ck_assert_int_eq(file_lock_mark_writer(fd), 0);
    fd_close(&fd);
    fd_close(&watch);
    log_maker_free(&maker);
}
END_TEST

/* ---- a mount that goes ---- */

static char disk[128], kept[128];

static void make_folders(void)
{
    unit_private_mounts();
    archive_rig_prepare(&rig);
    snprintf(disk, sizeof disk, "%s/disk", rig.folder);
    snprintf(kept, sizeof kept, "%s/kept", rig.folder);
    ck_assert_int_eq(mkdir(disk, 0755), 0);
    ck_assert_int_eq(mkdir(kept, 0755), 0);
}

static void setup_disk(void)
{
    make_folders();
    ck_assert_int_eq(mount("none", disk, "tmpfs", 0, "size=4m"), 0);
    ck_assert_int_eq(mount(disk, kept, NULL, MS_BIND, NULL), 0);
}

/* Another folder of the file system that is below the mount point, too. */
static void setup_bind(void)
{
    make_folders();
    ck_assert_int_eq(mount(kept, disk, NULL, MS_BIND, NULL), 0);
}

static void teardown_disk(void)
{
    umount2(disk, MNT_DETACH);
    umount2(kept, MNT_DETACH); /* fails where it is no mount */
    archive_rig_end(&rig);
}

static void expect_unmounted(void)
{
    char reason[MESSAGE_REASON_SIZE];
    ck_assert_int_eq(ask_for_segment(&rig, reason), ENODEV);
    ck_assert_msg(strstr(reason, "not mounted") && strstr(reason, "mount it again"), "%s", reason);
    ck_assert_int_eq(archive_rig_recover(&rig, NULL, NULL).error, ENODEV);
    ck_assert_int_eq(rig.log_dir_error, ENODEV);
}

static void go_through_unmounting(const char *below)
{
    snprintf(rig.log_dir, sizeof rig.log_dir, "%s%s", disk, below);
    snprintf(rig.channel, sizeof rig.channel, "%s/" RIG_CHANNEL, rig.log_dir);
    archive_rig_start(&rig);
    expect_segment(&rig);
    ck_assert_int_eq(umount2(disk, MNT_DETACH), 0);
    struct message_log_dir said =
        *archive_rig_receive(&rig, MESSAGE_LOG_DIR)->log_dir; /* without being asked anything */
    ck_assert_int_eq(said.error, ENODEV);
    rig.log_dir_error = said.error;
    expect_unmounted();
    archive_rig_replace(&rig); /* nor does the next archive fall for it */
    expect_unmounted();
    ck_assert_int_eq(archive_rig_count(&rig, ""), 0);
    ck_assert_int_eq(rmdir(disk), 0); /* empty */
    ck_assert_int_eq(mkdir(disk, 0755), 0);
}

START_TEST(test_the_same_disk_comes_back)
{
    go_through_unmounting(_i ? "/log" : "");
    ck_assert_int_eq(mount(kept, disk, NULL, MS_BIND, NULL), 0);
    expect_segment(&rig);
    ck_assert_int_eq(archive_rig_count(&rig, ".open"), 1); /* and went on in the folder it knew */
    ck_assert_int_eq(rig.log_dir_error, 0);
}
END_TEST

START_TEST(test_another_disk_takes_its_place)
{
    go_through_unmounting(_i ? "/log" : "");
    ck_assert_int_eq(mount("none", disk, "tmpfs", 0, "size=4m"), 0);
    expect_segment(&rig);
    ck_assert_int_eq(rig.log_dir_error, 0);
}
END_TEST

static void add_mounts(Suite *s, const char *name, void (*setup_mounts)(void))
{
    TCase *mounts = tcase_create(name);
    tcase_set_timeout(mounts, 60);
    tcase_add_checked_fixture(mounts, setup_mounts, teardown_disk);
    tcase_add_loop_test(mounts, test_the_same_disk_comes_back, 0, 2);
    tcase_add_loop_test(mounts, test_another_disk_takes_its_place, 0, 2);
    suite_add_tcase(s, mounts);
}

static Suite *suite(void)
{
    Suite *s = suite_create("dir_lock");
    TCase *turns = tcase_create("turns");
    tcase_set_timeout(turns, 60);
    tcase_add_checked_fixture(turns, setup, teardown);
    tcase_add_test(turns, test_the_lock_says_whose_it_is);
    tcase_add_test(turns, test_a_second_daemon_touches_nothing);
    tcase_add_test(turns, test_the_supervisor_keeps_it_between_two_archives);
    tcase_add_test(turns, test_an_archive_that_outlives_its_supervisor);
    tcase_add_test(turns, test_a_removed_folder_is_made_anew);
    tcase_add_test(turns, test_a_file_is_locked_while_it_is_mended);
    suite_add_tcase(s, turns);
    add_mounts(s, "mounts", setup_disk);
    add_mounts(s, "bind mounts", setup_bind);
    return s;
}

int main(void)
{
    return log_maker_run(suite());
}
