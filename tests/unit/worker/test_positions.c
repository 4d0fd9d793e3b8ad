/* SPDX-License-Identifier: MIT */
/* Readers' positions in the hands of the archive: kept, changed, removed, asked for again, and
 * never outside their folder, whatever a name or a link says. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/position_file.h"
#include "tests/lib/archive_rig.h"
#include "tests/lib/deny_call.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/unit.h"
#include "worker/archive/positions.h"

static struct archive_rig rig;
static char folder[256]; /* of the channel's positions */

static void set_up(void)
{
    archive_rig_prepare(&rig);
    archive_rig_start(&rig);
    snprintf(folder, sizeof folder, "%s/" POSITION_FOLDER "/" RIG_CHANNEL, rig.log_dir);
}

static void tear_down(void)
{
    archive_rig_end(&rig);
}

static struct message_position_saved ask(const struct message_position_save *save)
{
    archive_rig_send(&rig, MESSAGE_POSITION_SAVE, save, sizeof *save);
    const struct message *message = archive_rig_receive(&rig, MESSAGE_POSITION_SAVED);
    ck_assert_uint_eq(message->position_saved->turn, save->turn);
    return *message->position_saved;
}

static struct message_position_saved keep_of(uint32_t uid, const char *name, uint64_t seq)
{
    static uint64_t turn = 100;
    struct message_position_save save = {
        .channel = RIG_CHANNEL, .turn = ++turn, .seq = seq, .saved_ns = 1234, .uid = uid};
    snprintf(save.name, sizeof save.name, "%s", name);
    return ask(&save);
}

static struct message_position_saved forget_of(uint32_t uid, const char *name)
{
    struct message_position_save save = {
        .channel = RIG_CHANNEL, .turn = 1, .uid = uid, .forget = 1};
    snprintf(save.name, sizeof save.name, "%s", name);
    return ask(&save);
}

static struct message_position_saved keep(const char *name, uint64_t seq)
{
    return keep_of(1000, name, seq);
}

static struct message_position_saved forget(const char *name)
{
    return forget_of(1000, name);
}

static void assert_kept(const char *name, uint64_t seq)
{
    char path[sizeof folder + 80], text[POSITION_FILE_SIZE_MAX];
    struct position_file position;
    struct stat about;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    long length = unit_read_small_file(AT_FDCWD, path, text, sizeof text);
    ck_assert_msg(length > 0, "%s: %s", path, strerror((int)-length));
    ck_assert_int_eq(position_file_parse(text, (size_t)length, &position), 0);
    ck_assert_uint_eq(position.seq, seq);
    ck_assert_uint_eq(position.uid, 1000);
    ck_assert_int_eq(position.saved_ns, 1234);
    ck_assert_int_eq(lstat(path, &about), 0);
    ck_assert_uint_eq(about.st_mode & 07777, 0600);
    ck_assert_int_eq(lstat(folder, &about), 0);
    ck_assert_uint_eq(about.st_mode & 07777, 0700);
}

static int count_files(void)
{
    int count = 0;
    const struct dirent *entry;
    DIR *stream = opendir(folder);
    while (stream && (entry = readdir(stream)))
        count += entry->d_name[0] != '.' || entry->d_name[1] == 'n'; /* half a file, too */
    if (stream)
        closedir(stream);
    return count;
}

START_TEST(it_is_kept_changed_and_removed)
{
    ck_assert_int_eq(keep("store", 4711).error, 0);
    assert_kept("store", 4711);
    ck_assert_int_eq(keep("other", 3).error, 0);
    ck_assert_int_eq(keep("store", 4712).error, 0);
    assert_kept("store", 4712);
    assert_kept("other", 3);
    ck_assert_int_eq(count_files(), 2);
    ck_assert_int_eq(forget("store").error, 0);
    ck_assert_int_eq(forget("store").error, 0); /* asked again */
    ck_assert_int_eq(forget("never").error, 0);
    ck_assert_int_eq(count_files(), 1);
}
END_TEST

START_TEST(nothing_is_made_to_forget)
{
    ck_assert_int_eq(forget("store").error, 0);
    ck_assert_int_eq(access(rig.log_dir, F_OK), -1);
}
END_TEST

START_TEST(it_outlives_the_archive)
{
    ck_assert_int_eq(keep("store", 1).error, 0);
    archive_rig_replace(&rig);
    assert_kept("store", 1);
    ck_assert_int_eq(keep("store", 2).error, 0);
    assert_kept("store", 2);
}
END_TEST

/* What an archive that was killed has left half done is in nobody's way. */
START_TEST(half_a_file_is_replaced)
{
    char path[sizeof folder + 80];
    ck_assert_int_eq(keep("store", 1).error, 0);
    snprintf(path, sizeof path, "%s/" POSITION_TEMPORARY, folder);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, "seq 9", 5), 5);
    fd_close(&fd);
    ck_assert_int_eq(keep("store", 2).error, 0);
    assert_kept("store", 2);
    ck_assert_int_eq(count_files(), 1);
}
END_TEST

/* The log is empty, and so everything is numbered again; or somebody knows better than the files.
 */
START_TEST(it_goes_back_with_the_log)
{
    const struct message_recover anew = {.channel = RIG_CHANNEL, .flags = RECOVER_ANEW};
    ck_assert_int_eq(keep("store", 4711).error, 0);
    ck_assert_int_eq(keep("other", 0).error, 0);
    ck_assert_int_eq(archive_rig_recover(&rig, NULL, NULL).error, 0);
    assert_kept("store", 4711);
    archive_rig_send(&rig, MESSAGE_RECOVER, &anew, sizeof anew);
    ck_assert_int_eq(archive_rig_receive(&rig, MESSAGE_RECOVERED)->recovered->error, 0);
    assert_kept("store", 0);
    assert_kept("other", 0);
    ck_assert_int_eq(count_files(), 2);
    ck_assert_int_eq(forget("store").error, 0);
    ck_assert_int_eq(forget("other").error, 0);
}
END_TEST

/* Also where there is no room for another file. */
START_TEST(it_goes_back_on_a_full_disk)
{
    ck_assert_int_eq(keep("store", 4711).error, 0);
    const struct denied_call full = {
        .number = SYS_openat, .error = ENOSPC, .argument = 2, .has_bit = O_EXCL};
    deny_call(&full);
    positions_go_back(rig.log_dir, RIG_CHANNEL, 7);
    assert_kept("store", 7);
}
END_TEST

/* The archive has more to do than to wait for that, and so has a channel that waits for its log. */
START_TEST(whoever_locks_the_folder_holds_up_nothing_else)
{
    const struct message_recover anew = {.channel = RIG_CHANNEL, .flags = RECOVER_ANEW};
    ck_assert_int_eq(keep("store", 4711).error, 0);
    int held = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(flock(held, LOCK_EX), 0);
    const struct message_position_saved refused = keep("store", 4712);
    ck_assert_int_eq(refused.error, EBUSY);
    ck_assert_msg(strstr(refused.reason, "locked"), "%s", refused.reason);
    ck_assert_int_eq(forget("store").error, EBUSY);
    archive_rig_send(&rig, MESSAGE_RECOVER, &anew, sizeof anew);
    ck_assert_int_eq(archive_rig_receive(&rig, MESSAGE_RECOVERED)->recovered->error, 0);
    assert_kept("store", 4711);
    fd_close(&held);
    ck_assert_int_eq(keep("store", 4713).error, 0);
    assert_kept("store", 4713);
}
END_TEST

START_TEST(names_that_lead_elsewhere_are_refused)
{
    static const char *const names[] = {"", ".", "..", "../store", "a/b", ".new", "a b"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_assert_msg(keep(names[i], 1).error == EINVAL, "%s", names[i]);
        ck_assert_msg(forget(names[i]).error == EINVAL, "%s", names[i]);
    }
    struct message_position_save save = {.channel = "../engine", .name = "store", .turn = 5};
    ck_assert_int_eq(ask(&save).error, EINVAL);
    ck_assert_int_eq(count_files(), 0);
}
END_TEST

START_TEST(links_are_not_followed)
{
    char elsewhere[128], all[192];
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", rig.folder);
    snprintf(all, sizeof all, "%s/" POSITION_FOLDER, rig.log_dir);
    ck_assert_int_eq(mkdir(rig.log_dir, 0700), 0);
    ck_assert_int_eq(mkdir(elsewhere, 0700), 0);
    ck_assert_int_eq(symlink(elsewhere, all), 0);
    struct message_position_saved saved = keep("store", 1);
    ck_assert_int_eq(saved.error, ENOTDIR);
    ck_assert_ptr_nonnull(strstr(saved.reason, POSITION_FOLDER));
    ck_assert_int_eq(rmdir(elsewhere), 0); /* nothing was put there */
    ck_assert_int_eq(unlink(all), 0);

    ck_assert_int_eq(keep("store", 1).error, 0);
    char path[sizeof folder + 80];
    snprintf(path, sizeof path, "%s/" POSITION_TEMPORARY, folder);
    ck_assert_int_eq(symlink(elsewhere, path), 0);
    ck_assert_int_eq(keep("store", 2).error, 0);
    assert_kept("store", 2);
    ck_assert_int_eq(access(elsewhere, F_OK), -1);
}
END_TEST

START_TEST(what_is_in_the_way_is_told)
{
    ck_assert_int_eq(keep("store", 1).error, 0);
    char path[sizeof folder + 80];
    snprintf(path, sizeof path, "%s/folder", folder);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    struct message_position_saved saved = keep("folder", 1);
    ck_assert_int_eq(saved.error, EISDIR);
    ck_assert(saved.reason[0]);
    ck_assert_int_eq(forget("folder").error, EISDIR);
    ck_assert_int_eq(keep("store", 2).error, 0);
    assert_kept("store", 2);
}
END_TEST

/* Whoever asked before him was late: it is the first one's. */
START_TEST(another_users_is_left_alone)
{
    ck_assert_int_eq(keep("store", 1).error, 0);
    struct message_position_saved saved = keep_of(1001, "store", 2);
    ck_assert_int_eq(saved.error, EACCES);
    ck_assert_msg(strstr(saved.reason, "store") && strstr(saved.reason, "another user"), "%s",
                  saved.reason);
    assert_kept("store", 1);
    ck_assert_int_eq(forget_of(1001, "store").error, EACCES);
    ck_assert_int_eq(forget_of(0, "store").error, EACCES); /* root forgets in its owner's name */
    assert_kept("store", 1);
    ck_assert_int_eq(count_files(), 1);
    ck_assert_int_eq(keep("store", 3).error, 0);
    ck_assert_int_eq(forget("store").error, 0);
    ck_assert_int_eq(keep_of(1001, "store", 4).error, 0);
}
END_TEST

/* Nobody knows any more whose it was; the gate asks only for who may. */
START_TEST(a_damaged_one_is_replaced_and_removed)
{
    char path[sizeof folder + 80];
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(keep("store", 1).error, 0);
        snprintf(path, sizeof path, "%s/store", folder);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        ck_assert_int_eq(pwrite(fd, "x", 1, 0), 1);
        fd_close(&fd);
        ck_assert_int_eq(i == 0 ? keep("store", 2).error : forget("store").error, 0);
    }
    ck_assert_int_eq(count_files(), 0);
}
END_TEST

/* As an earlier archive may have left them, or one that died over them. */
static void put_many(int count)
{
    char name[32];
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "many-%d", i);
        log_maker_write(folder, name, "what is in it", 13);
    }
}

/* They are counted where they lie, whoever made them and whenever. */
START_TEST(no_more_are_kept_than_a_channel_may_have)
{
    ck_assert_int_eq(keep("store", 1).error, 0);
    put_many(POSITIONS_MOST - 2);
    ck_assert_int_eq(keep("last", 1).error, 0);
    struct message_position_saved saved = keep("more", 1);
    ck_assert_int_eq(saved.error, EDQUOT);
    ck_assert_msg(strstr(saved.reason, RIG_CHANNEL) && strstr(saved.reason, "1024") &&
                      strstr(saved.reason, "forget"),
                  "%s", saved.reason);
    ck_assert_int_eq(count_files(), POSITIONS_MOST);
    ck_assert_int_eq(keep("store", 2).error, 0); /* those that are there go on */
    assert_kept("store", 2);
    archive_rig_replace(&rig);
    ck_assert_int_eq(keep("more", 1).error, EDQUOT);
    ck_assert_int_eq(forget("many-7").error, 0);
    ck_assert_int_eq(keep("more", 1).error, 0);
    ck_assert_int_eq(keep("and-more", 1).error, EDQUOT);
    ck_assert_int_eq(count_files(), POSITIONS_MOST);
}
END_TEST

/* One user leaves room for the others, and goes on with those that he has. */
START_TEST(nobody_has_all_positions_of_a_channel)
{
    char name[32], text[POSITION_FILE_SIZE_MAX];
    const struct position_file position = {.seq = 1, .saved_ns = 1234, .uid = 1000};
    ck_assert_int_eq(keep("store", 1).error, 0);
    size_t length = position_file_print(&position, text);
    for (int i = 0; i < POSITIONS_MOST_OF_USER - 2; i++) {
        snprintf(name, sizeof name, "of-one-%d", i);
        log_maker_write(folder, name, text, length);
    }
    ck_assert_int_eq(keep("last", 1).error, 0);
    struct message_position_saved saved = keep("more", 1);
    ck_assert_int_eq(saved.error, EDQUOT);
    ck_assert_msg(strstr(saved.reason, "uid 1000") && strstr(saved.reason, "512") &&
                      strstr(saved.reason, RIG_CHANNEL),
                  "%s", saved.reason);
    ck_assert_int_eq(keep_of(1001, "more", 1).error, 0);
    ck_assert_int_eq(keep("store", 2).error, 0);
    ck_assert_int_eq(forget("of-one-3").error, 0);
    ck_assert_int_eq(keep("of-one-3", 1).error, 0);
}
END_TEST

/* Names that no position has are none, and half a file that was left is none either. */
START_TEST(what_is_no_position_is_not_counted)
{
    ck_assert_int_eq(keep("store", 1).error, 0);
    put_many(POSITIONS_MOST - 2);
    log_maker_write(folder, POSITION_TEMPORARY, "seq", 3);
    log_maker_write(folder, "a file.txt", "text", 4);
    ck_assert_int_eq(keep("last", 1).error, 0);
    ck_assert_int_eq(keep("more", 1).error, EDQUOT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("positions");
    TCase *tcase = tcase_create("positions");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, it_is_kept_changed_and_removed);
    tcase_add_test(tcase, nothing_is_made_to_forget);
    tcase_add_test(tcase, it_outlives_the_archive);
    tcase_add_test(tcase, half_a_file_is_replaced);
    tcase_add_test(tcase, it_goes_back_with_the_log);
    tcase_add_test(tcase, it_goes_back_on_a_full_disk);
    tcase_add_test(tcase, whoever_locks_the_folder_holds_up_nothing_else);
    tcase_add_test(tcase, names_that_lead_elsewhere_are_refused);
    tcase_add_test(tcase, links_are_not_followed);
    tcase_add_test(tcase, what_is_in_the_way_is_told);
    tcase_add_test(tcase, another_users_is_left_alone);
    tcase_add_test(tcase, no_more_are_kept_than_a_channel_may_have);
    tcase_add_test(tcase, nobody_has_all_positions_of_a_channel);
    tcase_add_test(tcase, what_is_no_position_is_not_counted);
    tcase_add_test(tcase, a_damaged_one_is_replaced_and_removed);
    suite_add_tcase(suite, tcase);
    return log_maker_run(suite);
}
