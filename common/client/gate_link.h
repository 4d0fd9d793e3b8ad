/* SPDX-License-Identifier: MIT */
/* The library's way to the gate: where its socket is, and a connection to it. */
#ifndef HOLDFAST_COMMON_CLIENT_GATE_LINK_H
#define HOLDFAST_COMMON_CLIENT_GATE_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/monotonic.h"

/* How long a request of a program may take; and a list that comes in parts, each of which may take
 * that long, altogether. */
#define GATE_PATIENCE_NS      (2 * NS_PER_S)
#define GATE_LIST_PATIENCE_NS (30 * NS_PER_S)

/* NULL: $HOLDFAST_READ_SOCKET, else where it usually is. 0 or -ENAMETOOLONG. */
int gate_link_address(const char *path, struct sockaddr_un *ret);

/* A non-blocking connection. Never waits: -EAGAIN when the gate has not accepted for a while.
 * Returns the descriptor or -errno. */
int gate_link_connect(const struct sockaddr_un *address);

/* "tcp:HOST:PORT": over TCP. NULL: as above. */
bool gate_link_is_remote(const char *path);
struct gate_remote {
    struct sockaddr_storage address;
    socklen_t size;
};
/* Of such a path. A host's name is looked up, however long that takes. 0, -EINVAL: it has no host
 * and port; -EHOSTUNREACH: there is no such host; or another -errno. */
int gate_link_find_remote(const char *path, struct gate_remote *ret);
/* A non-blocking connection, until the deadline. The descriptor, or -errno. */
int gate_link_connect_remote(const struct gate_remote *remote, monotonic deadline);

/* The first packet on it: who this program is. 0 or -errno. */
int gate_link_hello(int socket, uint32_t request);

/* What was refused, by the errno in the packet: never 0, never anything but -errno. */
/* A refusal that is of no request ends the connection. Is it one that another connection mends: the
 * gate's end, and limits that count what one connection does? */
bool gate_link_is_over(int32_t error);
int gate_link_error(int32_t error);

/* What stands for a connection that is made again and again: an epoll descriptor, in which so far
 * there is its retry timer alone. Both are -1 before. 0 or -errno; the caller closes what is there.
 */
int gate_link_begin(int *ret_epoll, int *ret_timer);
/* Wait for this one no more, and close it. */
void gate_link_unwatch(int epoll, int *fd);

/* Until the descriptor is readable, or the deadline. 0, -ETIMEDOUT (it has passed, readable or
 * not), or -errno. */
int gate_link_wait(int fd, monotonic deadline);

#endif
