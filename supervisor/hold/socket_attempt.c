/* SPDX-License-Identifier: MIT */
/* What went wrong with a socket, in words. Used by whoever sets one up. */
#include "supervisor/hold/socket_attempt.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"

int attempt_set(struct attempt *attempt, int level, int option, int value, const char *step)
{
    attempt->step = step;
    return setsockopt(attempt->fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

static const char *advice(int error)
{
    switch (error) {
    case -EADDRINUSE:
        return "another program uses this address: stop it, or choose another port";
    case -EADDRNOTAVAIL:
        return "no interface of this machine has this address: check it, or wait for the interface";
    case -EACCES:
    case -EPERM:
        return "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE; is a firewall in the "
               "way?";
    case -ENODEV:
        return "the interface does not exist: check its name with `ip link`";
    case -ENETUNREACH:
    case -EHOSTUNREACH:
        return "no route leads there: check `ip route`, or name an interface";
    case -EMFILE:
    case -ENFILE:
        return FD_SHORTAGE_ADVICE;
    case -ENOBUFS:
        return "too many multicast memberships: see the sysctl net.ipv4.igmp_max_memberships";
    case -EAFNOSUPPORT:
        return "this machine has no such address family: is IPv6 disabled?";
    default:
        return "see holdfast.conf(5)";
    }
}

void attempt_describe(const struct attempt *attempt, int error, char *why, size_t why_size)
{
    snprintf(why, why_size, "can't %s (%s): %s; %s", attempt->what, attempt->step, strerror(-error),
             advice(error));
}

int attempt_fail(struct attempt *attempt, int error, char *why, size_t why_size)
{
    attempt_describe(attempt, error, why, why_size);
    fd_close(&attempt->fd);
    return error;
}

int attempt_find_interface(const char *name, unsigned *ret_index)
{
    errno = 0;
    *ret_index = if_nametoindex(name); /* asks by a socket of its own */
    return *ret_index || errno == ENODEV || errno == ENXIO || errno == 0 ? 0 : -errno;
}

int attempt_interface(struct attempt *attempt, const char *name, unsigned *ret_index)
{
    attempt->step = "interface";
    *ret_index = 0;
    if (name[0] == '\0')
        return 0;
    int error = attempt_find_interface(name, ret_index);
    return error < 0 || *ret_index ? error : -ENODEV;
}
