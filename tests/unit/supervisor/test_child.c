/* SPDX-License-Identifier: MIT */
/* A child's queue. The story: what the kernel can't take at once is sent later, in order and
 * without loss; and while it is waited for, the event loop sleeps. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/fdpass.h"
#include "common/message.h"
#include "common/monotonic.h"
#include "supervisor/child/child.h"
#include "tests/lib/unit.h"

#define UNDER_WAY 80 /* more than the limit of descriptors below */
#define LIMIT     64
#define LOOK_NS   (200 * NS_PER_MS)
#define USER      54321 /* nobody else's descriptors count */

static void on_message(struct child *child, struct message *message)
{
    (void)child;
    (void)message;
}

static void on_end(struct child *child, const siginfo_t *end)
{
    (void)child;
    (void)end;
}

/* It keeps fd 3 open and never reads it: it waits for its standard input, which says nothing. */
static struct child *start_child(sd_event *event)
{
    const struct child_owner owner = {.role = "sleeper", .message = on_message, .ended = on_end};
    struct child *child = NULL;
    int input[2];
    ck_assert(pipe2(input, O_CLOEXEC) == 0 && dup2(input[0], STDIN_FILENO) == STDIN_FILENO);
    fd_close(&input[0]);
    int error = child_spawn(event, "/bin/cat", &owner, &child);
    ck_assert_msg(error == 0, "%s", strerror(-error));
    return child;
}

static unsigned count_turns(sd_event *event)
{
    monotonic began = monotonic_now();
    unsigned turns = 0;
    while (monotonic_since(monotonic_now(), began) < LOOK_NS) {
        ck_assert(sd_event_run(event, 10000) >= 0);
        turns++;
    }
    return turns;
}

static void limit_descriptors(void)
{
    const struct rlimit limit = {LIMIT, LIMIT};
    if (geteuid() == 0)
        ck_assert(setresgid(USER, USER, USER) == 0 && setresuid(USER, USER, USER) == 0);
    ck_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

START_TEST(descriptors_under_way_elsewhere_are_waited_for_in_sleep)
{
    int pair[2], fds[UNDER_WAY], one = STDERR_FILENO;
    char byte = 0;
    struct iovec part = {&byte, 1};
    sd_event *event = NULL;
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ends, NULL);

    limit_descriptors();
    ck_assert(sd_event_new(&event) >= 0);
    struct child *child = start_child(event);
    ck_assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    for (int i = 0; i < UNDER_WAY; i++)
        fds[i] = STDERR_FILENO;
    ck_assert_int_eq(fdpass_send(pair[0], &part, 1, fds, UNDER_WAY), 0);
    if (fdpass_send(pair[0], &part, 1, &one, 1) == 0)
        unit_skip("this kernel lets any number of descriptors be under way");

    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(child_send(child, MESSAGE_LOG_DIR, NULL, 0, &one, 1), 0);
    ck_assert_uint_eq(child->queue_length, 3);
    unsigned turns = count_turns(event);
    ck_assert_msg(turns < 1000, "%u turns of the event loop while there was nothing to do", turns);
    ck_assert_uint_eq(child->queue_length, 3);

    fd_close(&pair[0]);
    fd_close(&pair[1]); /* they are under way no longer */
    monotonic began = monotonic_now();
    while (child->queue && monotonic_since(monotonic_now(), began) < 20 * NS_PER_S)
        ck_assert(sd_event_run(event, 10000) >= 0);
    ck_assert_msg(!child->queue, "the messages were never sent");
    child_free(child);
    sd_event_unref(event);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("child");
    TCase *queue = tcase_create("queue");
    tcase_add_test(queue, descriptors_under_way_elsewhere_are_waited_for_in_sleep);
    tcase_set_timeout(queue, 60);
    suite_add_tcase(suite, queue);
    return unit_run(suite);
}
