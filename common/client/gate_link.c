/* SPDX-License-Identifier: MIT */
/* Connects to the gate, for handles and for readers. Called by both; must never wait but in
 * gate_link_wait(), and never leave a descriptor behind. */
#include "common/client/gate_link.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "common/fd.h"
#include "common/read_protocol.h"

#define REMOTE_PREFIX "tcp:"

static const char *path_or_default(const char *path)
{
    if (!path)
        path = getenv(READ_SOCKET_VARIABLE);
    return path && *path ? path : READ_SOCKET_DEFAULT;
}

int gate_link_address(const char *path, struct sockaddr_un *ret)
{
    path = path_or_default(path);
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

/* ---- over TCP ---- */

bool gate_link_is_remote(const char *path)
{
    return strncmp(path_or_default(path), REMOTE_PREFIX, strlen(REMOTE_PREFIX)) == 0;
}

/* "host:port" and "[host]:port", taken apart. */
static bool split(const char *text, char ret_host[256], const char **ret_port)
{
    const char *colon = strrchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : 0;
    if (length > 2 && text[0] == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    } else if (length == 0 || memchr(text, ':', length)) {
        return false; /* an IPv6 address without brackets: which is its port? */
    }
    if (length >= 256 || !colon[1])
        return false;
    memcpy(ret_host, text, length);
    ret_host[length] = '\0';
    *ret_port = colon + 1;
    return true;
}

static int error_of(int failure)
{
    switch (failure) {
    case EAI_SYSTEM:
        return errno > 0 ? -errno : -EIO;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_SERVICE:
        return -EINVAL;
    case EAI_AGAIN:
        return -EAGAIN;
    default:
        return -EHOSTUNREACH;
    }
}

int gate_link_find_remote(const char *path, struct gate_remote *ret)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found;
    char host[256];
    const char *port;
    if (!split(path_or_default(path) + strlen(REMOTE_PREFIX), host, &port))
        return -EINVAL;
    int failure = getaddrinfo(host, port, &hints, &found);
    if (failure != 0)
        return error_of(failure);
    *ret = (struct gate_remote){.size = found->ai_addrlen};
    memcpy(&ret->address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

static int await_connection(int fd, monotonic deadline)
{
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof error;
    for (;;) {
        const uint64_t left = monotonic_since(deadline, monotonic_now());
        int count = poll(&writable, 1, (int)((left + NS_PER_MS - 1) / NS_PER_MS));
        if (count == 0)
            return -ETIMEDOUT;
        if (count < 0 && errno != EINTR)
            return -errno;
        if (count > 0)
            return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
    }
}

int gate_link_connect_remote(const struct gate_remote *remote, monotonic deadline)
{
    const int yes = 1;
    int fd = socket(remote->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int result = connect(fd, (const struct sockaddr *)&remote->address, remote->size) < 0 &&
                         errno != EINTR && errno != EINPROGRESS
                     ? -errno
                     : await_connection(fd, deadline);
    if (result < 0) {
        fd_close(&fd);
        return result;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
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

int gate_link_begin(int *ret_epoll, int *ret_timer)
{
    *ret_epoll = epoll_create1(EPOLL_CLOEXEC);
    if (*ret_epoll < 0)
        return -errno;
    *ret_timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (*ret_timer < 0)
        return -errno;
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(*ret_epoll, EPOLL_CTL_ADD, *ret_timer, &event) < 0 ? -errno : 0;
}

/* Closing is not enough: a child of the program's that has it, too, keeps it among those that are
 * waited for, and once it has hung up, it would be readable for ever. */
void gate_link_unwatch(int epoll, int *fd)
{
    if (*fd >= 0)
        epoll_ctl(epoll, EPOLL_CTL_DEL, *fd, NULL);
    fd_close(fd);
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
