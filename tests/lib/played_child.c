/* SPDX-License-Identifier: MIT */
/* Takes a child's place behind the supervisor's back: the socket is another one, the process and
 * all that is known of it stay. */
#include "tests/lib/played_child.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "supervisor/child/child.h"

static int end = -1; /* where what it is told can be read */
static struct message message;

void played_child_prepare(void)
{
    int input[2];
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    ck_assert(pipe2(input, O_CLOEXEC) == 0 && dup2(input[0], STDIN_FILENO) == STDIN_FILENO);
    fd_close(&input[0]);
}

void played_child_take(struct child *child)
{
    int pair[2];
    ck_assert_ptr_nonnull(child);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
                     0);
    fd_close(&end);
    end = pair[1];
    ck_assert_int_eq(dup2(pair[0], child->socket), child->socket);
    fd_close(&pair[0]);
}

void played_child_leave(void)
{
    fd_close(&end);
}

struct message *played_child_hears(enum message_type type)
{
    const char *what = "nothing";
    int result = message_receive(end, TO_CHILD, &message, &what);
    ck_assert_msg(result == 1, "%s is not heard: %d %s", message_name(type), result, what);
    ck_assert_str_eq(message_name(message.header.type), message_name(type));
    return &message;
}

void played_child_hears_nothing(void)
{
    const char *what;
    ck_assert_int_eq(message_receive(end, TO_CHILD, &message, &what), -EAGAIN);
}

void played_child_says(struct child *child, enum message_type type, const void *payload,
                       size_t size)
{
    static struct message said;
    said.header.type = type;
    memcpy(said.bytes, payload, size);
    said.payload = said.bytes;
    child->owner.message(child, &said);
}

void played_child_sends(const struct child *child, enum message_type type, const void *payload,
                        size_t size)
{
    ck_assert_int_eq(message_send(end, type, child->generation, payload, size, NULL, 0), 0);
}
