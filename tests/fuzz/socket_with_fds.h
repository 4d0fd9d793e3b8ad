/* SPDX-License-Identifier: MIT */
/* What fuzzers of packets share: a pair of sockets, any number of descriptors that ride along, and
 * a look at whether any of them stayed behind. */
#ifndef HOLDFAST_TESTS_FUZZ_SOCKET_WITH_FDS_H
#define HOLDFAST_TESTS_FUZZ_SOCKET_WITH_FDS_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fdpass.h"

#define SOCKET_FDS_MAX 253 /* as many as the kernel lets ride on one packet */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int socket_ends[2] = {-1, -1}; /* to receive from, to send to */
static int socket_fds[SOCKET_FDS_MAX];
static int socket_lowest_free;

static int socket_lowest_fd(void)
{
    int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);
    close(fd);
    return fd;
}

/* Once. */
static void socket_set_up(void)
{
    int buffer = 1 << 20;
    if (socket_ends[0] >= 0)
        return;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socket_ends) < 0)
        abort();
    setsockopt(socket_ends[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (size_t i = 0; i < SOCKET_FDS_MAX; i++)
        socket_fds[i] = null;
    socket_lowest_free = socket_lowest_fd();
}

/* 0, or it can't be sent. */
static int socket_send(uint8_t *bytes, size_t length, uint32_t fd_count)
{
    const struct iovec part = {bytes, length};
    return fdpass_send(socket_ends[1], &part, 1, socket_fds, fd_count);
}

/* Some slack: the fuzzer's own threads open files now and then. What stays behind adds up soon. */
static void socket_check(void)
{
    if (socket_lowest_fd() > socket_lowest_free + 32)
        abort();
}

#endif
