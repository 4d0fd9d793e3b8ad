/* SPDX-License-Identifier: MIT */
/* A socket of packets that clients connect to, beside what test_control_socket.c tells of one of
 * lines: whoever lives there is not displaced, whatever kind of socket it has; a child that has
 * outlived its daemon is. And from one program to the next. */
#include "supervisor/system/listening.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/lib/unit.h"

#define KEPT "HOLDFAST_TEST_KEPT"

static char folder[] = "/tmp/holdfast-listening-XXXXXX";
static char path[64];
static struct listening sock;
static char why[256];

static struct listening_plan plan_of(int type)
{
    return (struct listening_plan){.section = "read",
                                   .type = type,
                                   .backlog = 8,
                                   .path = path,
                                   .mode = 0640,
                                   .group = "",
                                   .group_variable = "HOLDFAST_TEST_GROUP",
                                   .kept_variable = KEPT};
}

static int open_it(int type)
{
    const struct listening_plan plan = plan_of(type);
    return listening_open(&plan, false, &sock, why, sizeof why);
}

static int connect_to(int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int error = connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    fd_close(&fd);
    return error;
}

static int make_foreign(int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    return fd;
}

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/read.sock", folder);
    sock = (struct listening){.fd = -1};
    why[0] = '\0';
}

static void tear_down(void)
{
    listening_close(&sock);
    unlink(path);
    rmdir(folder);
}

START_TEST(packets_are_listened_for)
{
    struct stat about;
    ck_assert_msg(open_it(SOCK_SEQPACKET) == 0, "%s", why);
    ck_assert_int_eq(connect_to(SOCK_SEQPACKET), 0);
    ck_assert_int_eq(lstat(path, &about), 0);
    ck_assert_uint_eq(about.st_mode & 07777, 0640);
    listening_close(&sock);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(who_lives_there_stays)
{
    static const int types[] = {SOCK_SEQPACKET, SOCK_STREAM};
    for (size_t i = 0; i < 2; i++) {
        int fd = make_foreign(types[i]);
        ck_assert_int_eq(open_it(SOCK_SEQPACKET), -EADDRINUSE);
        ck_assert_ptr_nonnull(strstr(why, "its own read { socket }"));
        ck_assert_int_eq(sock.fd, -1);
        ck_assert_int_eq(connect_to(types[i]), 0);
        fd_close(&fd);
        ck_assert_int_eq(unlink(path), 0);
    }
}
END_TEST

START_TEST(what_nobody_listens_on_is_replaced)
{
    static const int types[] = {SOCK_SEQPACKET, SOCK_STREAM};
    for (size_t i = 0; i < 2; i++) {
        int fd = make_foreign(types[i]);
        fd_close(&fd);
        ck_assert_msg(open_it(SOCK_SEQPACKET) == 0, "%s", why);
        ck_assert_int_eq(connect_to(SOCK_SEQPACKET), 0);
        listening_close(&sock);
    }
}
END_TEST

/* The daemon was killed, and the child that serves the socket is stopped. */
START_TEST(what_only_an_orphan_has_is_replaced)
{
    int alive[2], status;
    char byte;
    ck_assert_int_eq(pipe2(alive, O_CLOEXEC), 0);
    pid_t daemon_pid = fork();
    if (daemon_pid == 0) {
        make_foreign(SOCK_SEQPACKET);
        if (fork() > 0)
            _exit(EXIT_SUCCESS);
        fd_close(&alive[1]);
        ssize_t ignored = read(alive[0], &byte, 1); /* as long as the test lives */
        _exit(ignored < 0);
    }
    fd_close(&alive[0]);
    ck_assert_int_eq(waitpid(daemon_pid, &status, 0), daemon_pid);
    ck_assert_int_eq(connect_to(SOCK_SEQPACKET), 0);
    ck_assert_msg(open_it(SOCK_SEQPACKET) == 0, "%s", why);
    int client = -1;
    ck_assert_int_eq(connect_to(SOCK_SEQPACKET), 0);
    client = accept4(sock.fd, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(client, 0);
    fd_close(&client);
    fd_close(&alive[1]);
}
END_TEST

START_TEST(a_file_is_left_alone)
{
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    fclose(file);
    ck_assert_int_eq(open_it(SOCK_SEQPACKET), -EEXIST);
    ck_assert_ptr_nonnull(strstr(why, "change read { socket }"));
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(the_next_program_goes_on_with_it)
{
    struct listening_plan plan = plan_of(SOCK_SEQPACKET);
    struct listening taken;
    ck_assert_int_eq(open_it(SOCK_SEQPACKET), 0);
    int left = listening_leave(&sock, &plan);
    ck_assert_int_ge(left, 0);
    ck_assert_int_eq(connect_to(SOCK_SEQPACKET), 0); /* waits in its backlog */
    ck_assert(listening_take(left, &plan, &taken));
    ck_assert_ptr_null(getenv(KEPT));
    int client = accept4(taken.fd, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(client, 0);
    fd_close(&client);
    listening_close(&taken);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(what_the_next_program_has_no_use_for_is_removed)
{
    static const char *const other_path = "/tmp/holdfast-listening-other";
    for (int i = 0; i < 3; i++) {
        struct listening_plan plan = plan_of(SOCK_SEQPACKET);
        struct listening taken;
        ck_assert_int_eq(open_it(SOCK_SEQPACKET), 0);
        int left = listening_leave(&sock, &plan);
        if (i == 0)
            plan.path = NULL;
        else if (i == 1)
            plan.path = other_path;
        else
            plan.mode = 0600;
        ck_assert(!listening_take(left, &plan, &taken));
        ck_assert_int_eq(taken.fd, -1);
        ck_assert_int_eq(access(path, F_OK), -1);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("listening");
    TCase *tcase = tcase_create("packets");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, packets_are_listened_for);
    tcase_add_test(tcase, who_lives_there_stays);
    tcase_add_test(tcase, what_nobody_listens_on_is_replaced);
    tcase_add_test(tcase, what_only_an_orphan_has_is_replaced);
    tcase_add_test(tcase, a_file_is_left_alone);
    tcase_add_test(tcase, the_next_program_goes_on_with_it);
    tcase_add_test(tcase, what_the_next_program_has_no_use_for_is_removed);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
