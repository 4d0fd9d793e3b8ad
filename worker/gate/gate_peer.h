/* SPDX-License-Identifier: MIT */
/* Whose limits a connection counts against: a user of this machine, or an address. */
#ifndef HOLDFAST_WORKER_GATE_PEER_H
#define HOLDFAST_WORKER_GATE_PEER_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "worker/gate/gate_state.h"

/* Below 2^32: a user. */
static inline uint64_t gate_peer_of_user(uid_t uid)
{
    return uid;
}

static inline bool gate_peer_is_user(uint64_t peer)
{
    return peer <= UINT32_MAX;
}

/* Above: an IPv4 address, or the first half of an IPv6 address, which is what one who has one has
 * many of. */
uint64_t gate_peer_of_address(const struct sockaddr_storage *address);

/* Who has just connected at this socket; listening is gate->tcp or another one. Fills in uid, pid
 * and peer. 0 or -errno. */
int gate_peer_find(const struct gate *gate, int listening, int fd, struct gate_connection *ret);

static inline bool gate_peer_is_remote(const struct gate_connection *connection)
{
    return connection->stream;
}

#endif
