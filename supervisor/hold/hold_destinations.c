/* SPDX-License-Identifier: MIT */
/* The sockets that a channel sends on, one connected per destination. A destination that can't be
 * reached is down: its socket refuses everything, and it is tried again. Must never keep a channel
 * from receiving. */
#include "supervisor/hold/hold_destinations.h"

#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "supervisor/hold/socket_attempt.h"

#define SEND_BUFFER_WANTED (4 << 20)
#define DOWN_TOLD_EVERY_NS (3600 * NS_PER_S)

static int set_multicast_out(struct attempt *attempt, const struct destination_spec *to,
                             unsigned interface)
{
    int ttl = (int)to->ttl, loop = to->loop != 0;
    int error;
    if (attempt->is_v6) {
        error = attempt_set(attempt, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)interface,
                            "IPV6_MULTICAST_IF");
        if (!error)
            error =
                attempt_set(attempt, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, ttl, "IPV6_MULTICAST_HOPS");
        if (!error)
            error = attempt_set(attempt, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, loop,
                                "IPV6_MULTICAST_LOOP");
        return error;
    }
    struct ip_mreqn request = {.imr_ifindex = (int)interface};
    attempt->step = "IP_MULTICAST_IF";
    if (setsockopt(attempt->fd, IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof request) < 0)
        return -errno;
    error = attempt_set(attempt, IPPROTO_IP, IP_MULTICAST_TTL, ttl, "IP_MULTICAST_TTL");
    if (!error)
        error = attempt_set(attempt, IPPROTO_IP, IP_MULTICAST_LOOP, loop, "IP_MULTICAST_LOOP");
    return error;
}

static void describe_destination(struct attempt *attempt, const struct destination_spec *to)
{
    char address[SOCKET_ADDRESS_TEXT_SIZE];
    socket_address_print(&to->to, address, sizeof address);
    snprintf(attempt->what, sizeof attempt->what, "send \"%s\" to %s%s%s", to->name, address,
             to->interface[0] ? " at " : "", to->interface);
}

/* The socket with what doesn't depend on the network. */
static int make_socket(int *ret_fd, const struct destination_spec *to, char *why, size_t why_size)
{
    struct attempt attempt = {.fd = -1, .is_v6 = to->to.family == AF_INET6, .step = "socket"};
    describe_destination(&attempt, to);
    attempt.fd = socket(to->to.family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = attempt.fd < 0 ? -errno : 0;
    if (!error && !attempt.is_v6)
        error = attempt_set(&attempt, SOL_SOCKET, SO_BROADCAST, 1, "SO_BROADCAST");
    if (error < 0)
        return attempt_fail(&attempt, error, why, why_size);
    if (attempt_set(&attempt, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_WANTED, "SO_SNDBUFFORCE") < 0)
        attempt_set(&attempt, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_WANTED, "SO_SNDBUF");
    /* Nobody reads here: keep no stranger's datagrams. */
    attempt_set(&attempt, SOL_SOCKET, SO_RCVBUF, 0, "SO_RCVBUF");
    *ret_fd = attempt.fd;
    return 0;
}

/* A connected socket keeps its own address and its interface, also over another connect(2), and may
 * have neither any more. The port stays what receivers know. */
static int dissolve(struct attempt *attempt)
{
    union socket_address own = {0};
    socklen_t length = sizeof own;
    const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    if (getsockname(attempt->fd, &own.any, &length) < 0 || own.v4.sin_port == 0)
        return 0;                     /* it was never connected */
    in_port_t port = own.v4.sin_port; /* in the same place for IPv6 */
    attempt->step = "connect to nobody";
    if (connect(attempt->fd, &nobody, sizeof nobody) < 0)
        return -errno;
    length = sizeof own;
    if (getsockname(attempt->fd, &own.any, &length) == 0 && own.v4.sin_port == port)
        return 0; /* it was bound to it, and still is */
    memset(&own, 0, sizeof own);
    own.family = attempt->is_v6 ? AF_INET6 : AF_INET;
    own.v4.sin_port = port;
    if (bind(attempt->fd, &own.any, socket_address_length(&own)) < 0)
        log_info("%s: goes on from another port", attempt->what);
    return 0;
}

static int reach_destination(struct attempt *attempt, const struct destination_spec *to,
                             unsigned *ret_interface)
{
    union socket_address peer = to->to;
    unsigned interface = 0;
    int error = dissolve(attempt);
    if (!error)
        error = attempt_interface(attempt, to->interface, &interface);
    *ret_interface = interface;
    if (!error && socket_address_is_multicast(&peer))
        error = set_multicast_out(attempt, to, interface);
    if (error)
        return error;
    if (attempt->is_v6 && peer.v6.sin6_scope_id == 0)
        peer.v6.sin6_scope_id = interface;
    attempt->step = "connect";
    return connect(attempt->fd, &peer.any, socket_address_length(&peer)) < 0 ? -errno : 0;
}

static void note_down(struct destination_down *down, const char *channel, const char *reason)
{
    monotonic now = monotonic_now();
    bool changed = strcmp(down->reason, reason) != 0;
    if (changed || monotonic_since(now, down->told) >= DOWN_TOLD_EVERY_NS) {
        log_warning("channel %s: %s; what is meant for it is counted as dropped, everything else "
                    "goes on; it is tried again every second",
                    channel, reason);
        down->told = now;
    }
    if (changed)
        snprintf(down->reason, sizeof down->reason, "%s", reason);
}

/* Of what connect(2) has settled, the route, the own address: it may have been so then, and be no
 * more. */
static bool is_of_connection(uint16_t error)
{
    return error == ENETUNREACH || error == EHOSTUNREACH || error == EINVAL || error == ENODEV ||
           error == ENXIO || error == EADDRNOTAVAIL;
}

/* What its worker was told when it sent is over, also when there is nothing to send. The worker
 * says it again if it is not. */
static void forget_refusal(const struct hold *hold, const struct channel_spec *spec, uint32_t index,
                           bool was_down)
{
    int place = hold->page ? hold_find_destination(hold, spec, index) : -1;
    if (place < 0)
        return;
    _Atomic uint16_t *error = &hold->page->private.places[place].send_error;
    uint16_t told = atomic_load(error);
    /* Neighbours that don't answer are no matter of the route: connect(2) knows nothing of them. */
    if (told == ENETUNREACH || (was_down && is_of_connection(told)))
        atomic_compare_exchange_strong(error, &told, 0);
}

/* A socket that leads nowhere yet refuses what is sent on it (EDESTADDRREQ). A worker has the same
 * socket: once it is connected here, it is connected there. */
void hold_destination_try(struct hold *hold, const struct channel_spec *spec, uint32_t index)
{
    const struct destination_spec *to = &spec->destinations[index];
    struct destination_down *down = &hold->down[index];
    struct attempt attempt = {.fd = hold->destinations[index], .is_v6 = to->to.family == AF_INET6};
    char reason[sizeof down->reason];

    describe_destination(&attempt, to);
    int error = reach_destination(&attempt, to, &down->interface);
    if (error < 0) {
        attempt_describe(&attempt, error, reason, sizeof reason);
        note_down(down, spec->name, reason);
        return;
    }
    forget_refusal(hold, spec, index, down->reason[0] != '\0');
    if (down->reason[0]) {
        log_notice("channel %s: \"%s\" can be reached now", spec->name, to->name);
        down->reason[0] = '\0';
        down->told = (monotonic){0};
    }
}

/* Its own socket can't be had, of an address family that this machine lacks, for example. What
 * stands in for it refuses everything, as one that leads nowhere does. */
static int make_stand_in(struct hold *hold, const struct channel_spec *spec, uint32_t index,
                         const char *why)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    hold->destinations[index] = fd;
    hold->down[index].stand_in = true;
    note_down(&hold->down[index], spec->name, why);
    return 0;
}

int hold_destinations_open(struct hold *hold, const struct channel_spec *spec, char *why,
                           size_t why_size)
{
    for (uint32_t i = 0; i < hold->destination_count; i++) {
        if (hold->destinations[i] >= 0)
            continue;
        int error = make_socket(&hold->destinations[i], &spec->destinations[i], why, why_size);
        if (error < 0 && make_stand_in(hold, spec, i, why) < 0)
            return error;
        if (error == 0)
            hold_destination_try(hold, spec, i);
    }
    return 0;
}

/* Of one that has a stand-in. */
static bool make_own_socket(struct hold *hold, const struct channel_spec *spec, uint32_t index)
{
    char why[sizeof hold->down[index].reason];
    int fd = -1;
    if (make_socket(&fd, &spec->destinations[index], why, sizeof why) < 0) {
        note_down(&hold->down[index], spec->name, why);
        return false;
    }
    fd_close(&hold->destinations[index]);
    hold->destinations[index] = fd;
    hold->down[index].stand_in = false;
    hold_destination_try(hold, spec, index);
    return true;
}

/* An interface that was deleted and made anew is another one, whatever its name: what is connected
 * through the former leads nowhere. */
static bool interface_changed(const struct destination_down *down,
                              const struct destination_spec *to)
{
    unsigned index;
    return to->interface[0] && attempt_find_interface(to->interface, &index) == 0 &&
           index != down->interface;
}

/* Was its worker refused since it was last tried? */
static bool is_refused(struct hold *hold, const struct channel_spec *spec, uint32_t index)
{
    struct destination_down *down = &hold->down[index];
    struct destination_progress progress;
    if (!hold->page)
        return false;
    int place = hold_find_destination(hold, spec, index);
    if (place < 0 ||
        !is_of_connection(atomic_load(&hold->page->private.places[place].send_error)) ||
        !channel_page_read_destination(hold->page, (uint32_t)place, &progress) ||
        progress.dropped == down->dropped)
        return false;
    down->dropped = progress.dropped;
    return true;
}

bool hold_destinations_try_down(struct hold *hold, const struct channel_spec *spec,
                                bool may_replace)
{
    bool made = false;
    for (uint32_t i = 0; i < hold->destination_count; i++) {
        struct destination_down *down = &hold->down[i];
        if (hold->destinations[i] < 0)
            continue;
        if (down->stand_in)
            made |= may_replace && make_own_socket(hold, spec, i);
        else if (down->reason[0] || interface_changed(down, &spec->destinations[i]) ||
                 is_refused(hold, spec, i))
            hold_destination_try(hold, spec, i);
    }
    return made;
}

void hold_destinations_interface_gone(struct hold *hold, unsigned index)
{
    for (uint32_t i = 0; i < hold->destination_count; i++)
        if (index == 0 || hold->down[i].interface == index)
            hold->down[i].interface = UINT_MAX; /* nobody's: it is connected anew */
}
