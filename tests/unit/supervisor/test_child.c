/* SPDX-License-Identifier: MIT */
/* A child's queue. The story: what the kernel can't take at once is sent later, in order and
 * without loss; and while it is waited for, the event loop sleeps. However much children say, the
 * event loop has time for everything else. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#define FLOODS    3
#define FLOOD     30000 /* messages */
#define RUN_MAX   5000  /* of these, without a turn for anybody else */

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

/* What the last in line finds between two of its turns. */
struct flood {
    unsigned messages;
    unsigned in_a_row;
    unsigned longest;
};

static void on_flood(struct child *child, struct message *message)
{
    struct flood *flood = child->owner.data;
    (void)message;
    flood->messages++;
    if (++flood->in_a_row > flood->longest)
        flood->longest = flood->in_a_row;
}

static int on_last_in_line(sd_event_source *source, void *userdata)
{
    struct flood *flood = userdata;
    (void)source;
    flood->in_a_row = 0;
    return 0;
}

START_TEST(children_that_never_stop_talking_leave_turns_to_the_last_in_line)
{
    struct flood flood = {0};
    const struct child_owner owner = {
        .role = "flood", .message = on_flood, .ended = on_end, .data = &flood};
    struct child *children[FLOODS] = {NULL};
    sd_event_source *last = NULL;
    sd_event *event = NULL;
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ends, NULL);

    ck_assert(sd_event_new(&event) >= 0);
    ck_assert(sd_event_add_defer(event, &last, on_last_in_line, &flood) >= 0);
    ck_assert(sd_event_source_set_priority(last, SD_EVENT_PRIORITY_IDLE) >= 0);
    ck_assert(sd_event_source_set_enabled(last, SD_EVENT_ON) >= 0);
    for (int i = 0; i < FLOODS; i++)
        ck_assert_int_eq(child_spawn(event, "/proc/self/exe", &owner, &children[i]), 0);
    while (flood.messages < FLOOD)
        ck_assert(sd_event_run(event, 10000) >= 0);
    ck_assert_msg(flood.longest < RUN_MAX, "%u messages in a row", flood.longest);
    for (int i = 0; i < FLOODS; i++)
        child_free(children[i]);
    sd_event_source_disable_unref(last);
    sd_event_unref(event);
}
END_TEST

/* This program as a child: until nobody listens. */
static int talk(void)
{
    const struct message_segment_wanted wanted = {0};
    struct pollfd room = {.fd = MESSAGE_FD, .events = POLLOUT};
    int error = 0;
    while (error == 0 || (error == -EAGAIN && poll(&room, 1, -1) > 0))
        error =
            message_send(MESSAGE_FD, MESSAGE_SEGMENT_WANTED, 0, &wanted, sizeof wanted, NULL, 0);
    return 0;
}

int main(int count, char **arguments)
{
    if (count > 0 && strcmp(arguments[0], "holdfast-worker") == 0)
        return talk();
    Suite *suite = suite_create("child");
    TCase *queue = tcase_create("queue");
    tcase_add_test(queue, descriptors_under_way_elsewhere_are_waited_for_in_sleep);
    tcase_add_test(queue, children_that_never_stop_talking_leave_turns_to_the_last_in_line);
    tcase_set_timeout(queue, 60);
    suite_add_tcase(suite, queue);
    return unit_run(suite);
}
