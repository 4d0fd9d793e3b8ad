/* SPDX-License-Identifier: MIT */
/* Claims an address and a port. Called when the daemon starts, and while that has failed. Must
 * never listen at another address than the one that was written. */
#include "supervisor/system/listening_tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"

#define BACKLOG 4096

static int claim(int fd, const union socket_address *address)
{
    const int yes = 1;
    /* Connections of a daemon that has ended may still wait for their last packets. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0)
        return -errno;
    if (address->family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes) < 0)
        return -errno;
    if (bind(fd, &address->any, socket_address_length(address)) < 0)
        return -errno;
    return listen(fd, BACKLOG) < 0 ? -errno : 0;
}

static const char *advice(int error)
{
    switch (error) {
    case EADDRINUSE:
        return "end what listens there, or write another port";
    case EADDRNOTAVAIL:
        return "this machine has no such address: give it to an interface, or write another one";
    case EACCES:
        return "ports below 1024 need CAP_NET_BIND_SERVICE: write another port";
    default:
        return "write another address or port, or leave it out";
    }
}

int listening_tcp_open(const union socket_address *address, const char *key, char *why,
                       size_t why_size)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    int fd = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result = fd < 0 ? -errno : claim(fd, address);
    if (result == 0)
        return fd;
    socket_address_print(address, text, sizeof text);
    snprintf(why, why_size, "cannot listen on TCP %s (%s): %s; %s", text, key, strerror(-result),
             advice(-result));
    fd_close(&fd);
    return result;
}
