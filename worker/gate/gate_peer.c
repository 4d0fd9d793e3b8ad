/* SPDX-License-Identifier: MIT */
/* Tells who connects. Called by the main loop for each new connection. Where a user is not known,
 * nobody is ever taken for one: addresses and users are different numbers. */
#include "worker/gate/gate_peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define IS_ADDRESS (UINT64_C(1) << 32)
#define IS_NETWORK (UINT64_C(1) << 63)

static uint64_t of_v4(const void *address)
{
    uint32_t number;
    memcpy(&number, address, sizeof number);
    return IS_ADDRESS | number;
}

uint64_t gate_peer_of_address(const struct sockaddr_storage *address)
{
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    uint64_t network;
    if (address->ss_family == AF_INET)
        return of_v4(&((const struct sockaddr_in *)address)->sin_addr);
    if (address->ss_family != AF_INET6)
        return IS_NETWORK;
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        return of_v4(&v6->sin6_addr.s6_addr[12]);
    memcpy(&network, &v6->sin6_addr, sizeof network);
    return IS_NETWORK | network; /* two that differ in that bit alone share their limits */
}

int gate_peer_find(const struct gate *gate, int listening, int fd, struct gate_connection *ret)
{
    struct sockaddr_storage address = {0};
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (listening == gate->tcp) {
        size = sizeof address;
        if (getpeername(fd, (struct sockaddr *)&address, &size) < 0)
            return -errno;
        ret->uid = GATE_NO_UID;
        ret->pid = 0;
        ret->peer = gate_peer_of_address(&address);
        return 0;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return -errno;
    ret->uid = peer.uid;
    ret->pid = peer.pid;
    ret->peer = gate_peer_of_user(peer.uid);
    return 0;
}
