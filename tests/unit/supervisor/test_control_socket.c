/* SPDX-License-Identifier: MIT */
/* The control socket's path. The story: a daemon makes its socket with exactly the mode that was
 * asked for, whatever the umask; it clears away what a dead daemon left, never displaces a living
 * one, and at its end removes its own socket and nobody else's. */
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor/config/settings.h"
#include "supervisor/control/control.h"
#include "supervisor/system/listening.h"
#include "tests/lib/control_daemon.h"
#include "tests/lib/unit.h"

static struct control_daemon daemon_;

static void set_up(void)
{
    control_daemon_init(&daemon_);
}

static void tear_down(void)
{
    control_daemon_cleanup(&daemon_);
}

static void start(void)
{
    ck_assert_msg(control_daemon_start(&daemon_) == 0, "%s", daemon_.why);
}

static int open_as(const struct settings *settings, struct listening *ret, char *why, size_t size)
{
    const struct listening_plan plan = control_listening_plan(settings);
    return listening_open(&plan, true, ret, why, size);
}

static mode_t mode_of(const char *path)
{
    struct stat info;
    ck_assert_msg(lstat(path, &info) == 0, "%s: %s", path, strerror(errno));
    return info.st_mode & 07777;
}

static bool answers(void)
{
    int fd = control_connect(&daemon_);
    if (fd < 0)
        return false;
    char line[512];
    bool answered =
        control_send_text(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n") == 0 &&
        control_read_line(fd, line, sizeof line) > 0;
    close(fd);
    return answered;
}

START_TEST(mode_is_as_set_whatever_the_umask)
{
    static const mode_t modes[] = {0600, 0660, 0666}, umasks[] = {0, 077, 022};
    for (size_t i = 0; i < 3; i++) {
        umask(umasks[i]);
        daemon_.mode = modes[i];
        start();
        ck_assert_uint_eq(mode_of(daemon_.socket), modes[i]);
        ck_assert(answers());
        control_daemon_stop(&daemon_);
    }
}
END_TEST

START_TEST(the_last_missing_folder_is_made_and_only_that)
{
    start(); /* .../run did not exist */
    ck_assert(answers());
    control_daemon_stop(&daemon_);
    snprintf(daemon_.socket, sizeof daemon_.socket, "%s/a/b/control.sock", daemon_.folder);
    ck_assert_int_eq(control_daemon_start(&daemon_), -ENOENT);
    ck_assert_ptr_nonnull(strstr(daemon_.why, "/a/b"));
}
END_TEST

START_TEST(a_stale_socket_is_replaced)
{
    start();
    control_daemon_kill(&daemon_); /* leaves its socket behind */
    ck_assert_int_eq(control_connect(&daemon_), -ECONNREFUSED);
    start();
    ck_assert(answers());
}
END_TEST

START_TEST(a_living_daemon_is_not_displaced)
{
    start();
    struct control_daemon second = daemon_;
    second.pid = 0;
    ck_assert_int_eq(control_daemon_start(&second), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(second.why, "another holdfastd answers"));
    ck_assert(answers()); /* and its socket is still there */
}
END_TEST

START_TEST(what_is_no_socket_is_left_alone)
{
    char path[108];
    snprintf(path, sizeof path, "%s/file", daemon_.folder);
    FILE *file = fopen(path, "we");
    fputs("precious", file);
    fclose(file);
    strcpy(daemon_.socket, path);
    ck_assert_int_eq(control_daemon_start(&daemon_), -EEXIST);
    ck_assert_ptr_nonnull(strstr(daemon_.why, "is no socket"));
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(at_its_end_it_removes_its_own_socket_only)
{
    start();
    control_daemon_stop(&daemon_);
    ck_assert_int_eq(access(daemon_.socket, F_OK), -1);

    start();
    char aside[128];
    snprintf(aside, sizeof aside, "%s.aside", daemon_.socket);
    ck_assert_int_eq(rename(daemon_.socket, aside), 0); /* so that its inode number stays taken */
    struct control_daemon second = daemon_;
    second.pid = 0;
    ck_assert_int_eq(control_daemon_start(&second), 0);
    control_daemon_stop(&daemon_);
    daemon_ = second;
    ck_assert(answers());
}
END_TEST

START_TEST(an_unknown_group_is_an_error_and_leaves_nothing_behind)
{
    struct settings settings = {.control_mode = 0660, .control_group = "no-such-group-here"};
    struct listening sock;
    char why[256] = "";
    snprintf(settings.control_socket, sizeof settings.control_socket, "%s/control.sock",
             daemon_.folder);
    ck_assert_int_lt(open_as(&settings, &sock, why, sizeof why), 0);
    ck_assert_ptr_nonnull(strstr(why, "no group 'no-such-group-here'"));
    ck_assert_int_eq(access(settings.control_socket, F_OK), -1);
    ck_assert_int_eq(sock.fd, -1);
}
END_TEST

/* It is not asked for again in an upgrade: a directory service may take minutes to answer. */
START_TEST(a_group_that_was_looked_up_is_known)
{
    struct settings settings = {.control_mode = 0660, .control_group = "no-such-group-here"};
    struct listening sock;
    struct stat info;
    char why[256] = "", known[64];
    gid_t expected = geteuid() == 0 ? 4242 : getgid();
    snprintf(settings.control_socket, sizeof settings.control_socket, "%s/control.sock",
             daemon_.folder);
    snprintf(known, sizeof known, "%lu no-such-group-here", (unsigned long)expected);
    setenv(CONTROL_GROUP_VARIABLE, known, 1);
    ck_assert_msg(open_as(&settings, &sock, why, sizeof why) == 0, "%s", why);
    ck_assert_int_eq(lstat(settings.control_socket, &info), 0);
    ck_assert_uint_eq(info.st_gid, expected);
    listening_close(&sock);
    setenv(CONTROL_GROUP_VARIABLE, "4242 another", 1);
    ck_assert_int_eq(open_as(&settings, &sock, why, sizeof why), -ENOENT);
}
END_TEST

START_TEST(the_group_is_as_set)
{
    struct settings settings = {.control_mode = 0660};
    struct listening sock;
    struct stat info;
    char why[256] = "";
    gid_t groups[64];
    /* One that this user may give: of its own, or any for root. */
    const struct group *group = geteuid() == 0 ? getgrnam("daemon") : NULL;
    if (!group)
        group = getgrgid(getgroups(64, groups) > 0 ? groups[0] : getgid());
    if (!group)
        unit_skip("this user's group has no name in the group database");
    gid_t expected = group->gr_gid;
    snprintf(settings.control_group, sizeof settings.control_group, "%s", group->gr_name);
    snprintf(settings.control_socket, sizeof settings.control_socket, "%s/control.sock",
             daemon_.folder);
    ck_assert_msg(open_as(&settings, &sock, why, sizeof why) == 0, "%s", why);
    ck_assert_int_eq(lstat(settings.control_socket, &info), 0);
    ck_assert_uint_eq(info.st_gid, expected);
    ck_assert_uint_eq(info.st_mode & 07777, 0660);
    listening_close(&sock);
    ck_assert_int_eq(access(settings.control_socket, F_OK), -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("control socket's path");
    TCase *tests = tcase_create("path");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, mode_is_as_set_whatever_the_umask);
    tcase_add_test(tests, the_last_missing_folder_is_made_and_only_that);
    tcase_add_test(tests, a_stale_socket_is_replaced);
    tcase_add_test(tests, a_living_daemon_is_not_displaced);
    tcase_add_test(tests, what_is_no_socket_is_left_alone);
    tcase_add_test(tests, at_its_end_it_removes_its_own_socket_only);
    tcase_add_test(tests, an_unknown_group_is_an_error_and_leaves_nothing_behind);
    tcase_add_test(tests, the_group_is_as_set);
    tcase_add_test(tests, a_group_that_was_looked_up_is_known);
    suite_add_tcase(suite, tests);
    control_daemon_begin_all();
    int status = unit_run(suite);
    control_daemon_end_all();
    return status;
}
