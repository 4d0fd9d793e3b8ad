/* SPDX-License-Identifier: MIT */
/* Connects to the gate, for handles and for readers. Called by both; must never wait but in
 * gate_link_wait(), and never leave a descriptor behind. */
#include "common/client/gate_link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/read_protocol.h"

int gate_link_address(const char *path, struct sockaddr_un *ret)
{
    if (!path)
        path = getenv(READ_SOCKET_VARIABLE);
    if (!path || !*path)
        path = READ_SOCKET_DEFAULT;
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof ret->sun_path)
        return -ENAMETOOLONG;
    snprintf(ret->sun_path, sizeof ret->sun_path, "%s", path);
    return 0;
}

int gate_link_connect(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    while (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0) {
        int error = errno;
        if (error == EINTR)
            continue;
        fd_close(&fd);
        return -error;
    }
    return fd;
}

int gate_link_hello(int socket, uint32_t request)
{
    struct read_hello hello = {0};
    snprintf(hello.program, sizeof hello.program, "%s", program_invocation_short_name);
    return read_packet_send(socket, READ_HELLO, request, &hello, sizeof hello, -1);
}

bool gate_link_is_over(int32_t error)
{
    return error == ESHUTDOWN || error == ETIMEDOUT || error == EDQUOT;
}

int gate_link_error(int32_t error)
{
    return error > 0 && error < 4096 ? -error : -EPROTO;
}

int gate_link_wait(int fd, monotonic deadline)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    for (;;) {
        uint64_t left = monotonic_since(deadline, monotonic_now());
        if (left == 0) /* also when there is always something to read, and none of it helps */
            return -ETIMEDOUT;
        int count = poll(&poll_fd, 1, (int)((left + NS_PER_MS - 1) / NS_PER_MS));
        if (count > 0)
            return 0;
        if (count == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}
