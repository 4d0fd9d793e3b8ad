/* SPDX-License-Identifier: MIT */
/* Where replay sends to. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_REPLAY_SOCKET_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_REPLAY_SOCKET_H

#include <stddef.h>
#include <stdint.h>

#include "common/channel_spec.h"

struct ctl_replay_target {
    union socket_address address;
    char interface[IF_NAMESIZE]; /* "" = by the routing table */
    int ttl;                     /* multicast's TTL or hop limit; -1: 1 for it, and else as usual */
};

struct ctl_replay_socket {
    int fd;
    uint64_t errors; /* datagrams that could not be sent */
    int first_error; /* -errno of the first one */
};

/* A socket of its own, connected there. 0, or -errno with *ret_what: the call that failed. */
int ctl_replay_socket_open(struct ctl_replay_socket *socket, const struct ctl_replay_target *target,
                           const char **ret_what);
void ctl_replay_socket_close(struct ctl_replay_socket *socket);

/* One datagram. 0, or -errno, which is also counted. That nobody listens there is no error. */
int ctl_replay_socket_send(struct ctl_replay_socket *socket, const void *payload, size_t length);

#endif
