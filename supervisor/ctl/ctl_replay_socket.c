/* SPDX-License-Identifier: MIT */
/* Replay's socket. Called by ctl_replay.c. What the network refuses is counted and never ends a
 * replay. */
#include "supervisor/ctl/ctl_replay_socket.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"

struct set_option {
    int level, name;
    const void *value;
    socklen_t size;
    const char *what;
};

static int set(int fd, const struct set_option *option, const char **ret_what)
{
    *ret_what = option->what;
    return setsockopt(fd, option->level, option->name, option->value, option->size) < 0 ? -errno
                                                                                        : 0;
}

static int set_hops(int fd, const struct ctl_replay_target *target, const char **ret_what)
{
    const bool is_v6 = target->address.family == AF_INET6;
    const bool is_multicast = socket_address_is_multicast(&target->address);
    const int hops = target->ttl < 0 ? 1 : target->ttl;
    if (!is_multicast && target->ttl < 0)
        return 0;
    struct set_option option = {.value = &hops, .size = sizeof hops, .what = "the TTL"};
    option.level = is_v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    if (is_v6)
        option.name = is_multicast ? IPV6_MULTICAST_HOPS : IPV6_UNICAST_HOPS;
    else
        option.name = is_multicast ? IP_MULTICAST_TTL : IP_TTL;
    return set(fd, &option, ret_what);
}

/* Multicast has an option of its own for it, which needs no privileges on any kernel. */
static int set_interface(int fd, const struct ctl_replay_target *target, const char **ret_what)
{
    const unsigned index = if_nametoindex(target->interface);
    const int v6 = (int)index;
    const struct ip_mreqn v4 = {.imr_ifindex = (int)index};
    *ret_what = "the interface";
    if (index == 0)
        return -ENODEV;
    if (!socket_address_is_multicast(&target->address))
        return set(fd,
                   &(struct set_option){SOL_SOCKET, SO_BINDTODEVICE, target->interface,
                                        (socklen_t)strlen(target->interface), "the interface"},
                   ret_what);
    if (target->address.family == AF_INET6)
        return set(
            fd,
            &(struct set_option){IPPROTO_IPV6, IPV6_MULTICAST_IF, &v6, sizeof v6, "the interface"},
            ret_what);
    return set(fd,
               &(struct set_option){IPPROTO_IP, IP_MULTICAST_IF, &v4, sizeof v4, "the interface"},
               ret_what);
}

int ctl_replay_socket_open(struct ctl_replay_socket *to, const struct ctl_replay_target *target,
                           const char **ret_what)
{
    union socket_address address = target->address;
    *to = (struct ctl_replay_socket){.fd = -1};
    *ret_what = "socket";
    to->fd = socket(address.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (to->fd < 0)
        return -errno;
    int result = set_hops(to->fd, target, ret_what);
    if (result == 0 && target->interface[0])
        result = set_interface(to->fd, target, ret_what);
    if (result < 0)
        return result;
    if (target->interface[0] && address.family == AF_INET6 && address.v6.sin6_scope_id == 0 &&
        socket_address_is_link_local(&address))
        address.v6.sin6_scope_id = if_nametoindex(target->interface);
    *ret_what = "connect";
    return connect(to->fd, &address.any, socket_address_length(&address)) < 0 ? -errno : 0;
}

void ctl_replay_socket_close(struct ctl_replay_socket *to)
{
    fd_close(&to->fd);
}

int ctl_replay_socket_send(struct ctl_replay_socket *to, const void *payload, size_t length)
{
    int error = 0;
    /* An answer to an earlier datagram, that nobody was there, is told instead of sending this one.
     * So is, where it is slow, another signal. */
    for (int tries = 0; tries < 8; tries++) {
        if (send(to->fd, payload, length, 0) >= 0)
            return 0;
        error = errno;
        if (error != ECONNREFUSED && error != EINTR)
            break;
    }
    if (error == ECONNREFUSED)
        return 0;
    to->errors++;
    if (!to->first_error)
        to->first_error = -error;
    return -error;
}
