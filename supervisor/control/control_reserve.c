/* SPDX-License-Identifier: MIT */
/* Keeps a few descriptors open that lead nowhere, so that each can be closed for a client's. Called
 * by control.c and control_client.c. */
#include "supervisor/control/control_reserve.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "common/fd.h"

void control_reserve_init(struct control_reserve *reserve)
{
    for (int i = 0; i < CONTROL_RESERVE; i++)
        reserve->fds[i] = -1;
}

void control_reserve_close(struct control_reserve *reserve)
{
    for (int i = 0; i < CONTROL_RESERVE; i++)
        fd_close(&reserve->fds[i]);
}

bool control_reserve_fill(struct control_reserve *reserve)
{
    for (int i = 0; i < CONTROL_RESERVE; i++) {
        if (reserve->fds[i] < 0)
            reserve->fds[i] = eventfd(0, EFD_CLOEXEC);
        if (reserve->fds[i] < 0)
            return false;
    }
    return true;
}

static bool give_one(struct control_reserve *reserve)
{
    for (int i = 0; i < CONTROL_RESERVE; i++)
        if (reserve->fds[i] >= 0) {
            fd_close(&reserve->fds[i]);
            return true;
        }
    return false;
}

int control_reserve_accept(struct control_reserve *reserve, int listening)
{
    int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 || (errno != EMFILE && errno != ENFILE))
        return fd;
    int shortage = errno;
    if (!give_one(reserve)) {
        errno = shortage;
        return -1;
    }
    fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        int error = errno;
        control_reserve_fill(reserve);
        errno = error;
    }
    return fd;
}
