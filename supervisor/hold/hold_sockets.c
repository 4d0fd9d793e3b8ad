/* SPDX-License-Identifier: MIT */
/* Opens a channel's sockets: one bound for receiving, one connected per destination. Called when a
 * channel opens and opens again; what is open already stays as it is, with what the kernel has
 * queued in it. Must never leave a socket half configured: the receiver's is as the settings say,
 * or closed and the reason told; a destination's is connected, or it is down and refuses
 * everything. A destination must never keep a channel from receiving. */
#include "supervisor/hold/hold_sockets.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/hold/hold_ring.h"

#ifndef UDP_GRO
#define UDP_GRO 104 /* linux/udp.h, which can't be included beside netinet/udp.h */
#endif
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

#define SEND_BUFFER_WANTED (4 << 20)
#define DOWN_TOLD_EVERY_NS (3600 * NS_PER_S)

/* What is being done to which socket, so that an error can be told completely. */
struct attempt {
    int fd;
    bool is_v6;
    char what[160];   /* "listen on 239.1.1.1:6000" */
    const char *step; /* "bind" */
};

static int set_int(struct attempt *attempt, int level, int option, int value, const char *step)
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
        return "too many open files: raise LimitNOFILE= or `ulimit -n`";
    case -ENOBUFS:
        return "too many multicast memberships: see the sysctl net.ipv4.igmp_max_memberships";
    case -EAFNOSUPPORT:
        return "this machine has no such address family: is IPv6 disabled?";
    default:
        return "see holdfast.conf(5)";
    }
}

static void describe_failure(const struct attempt *attempt, int error, char *why, size_t why_size)
{
    snprintf(why, why_size, "can't %s (%s): %s; %s", attempt->what, attempt->step, strerror(-error),
             advice(error));
}

static int fail(struct attempt *attempt, int error, char *why, size_t why_size)
{
    describe_failure(attempt, error, why, why_size);
    fd_close(&attempt->fd);
    return error;
}

static int interface_index(struct attempt *attempt, const char *name, unsigned *ret_index)
{
    attempt->step = "interface";
    *ret_index = 0;
    if (name[0] == '\0')
        return 0;
    *ret_index = if_nametoindex(name);
    return *ret_index ? 0 : -ENODEV;
}

/* ---- receiving ---- */

/* The kernel doubles what is asked for, to have room for its own bookkeeping. */
static uint64_t receive_buffer_given(int fd)
{
    int given = 0;
    socklen_t length = sizeof given;
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &given, &length);
    return (uint64_t)given / 2;
}

static void set_receive_buffer(struct attempt *attempt, struct hold *hold,
                               const struct channel_spec *spec)
{
    int wanted = spec->receive_buffer > INT32_MAX / 2 ? INT32_MAX / 2 : (int)spec->receive_buffer;
    if (set_int(attempt, SOL_SOCKET, SO_RCVBUFFORCE, wanted, "SO_RCVBUFFORCE") < 0)
        set_int(attempt, SOL_SOCKET, SO_RCVBUF, wanted, "SO_RCVBUF");
    hold->receive_buffer = receive_buffer_given(attempt->fd);
    if (hold->receive_buffer < (uint64_t)wanted)
        log_warning("channel %s: the kernel gave a receive buffer of %llu bytes instead of %d; "
                    "bursts may be dropped. "
                    "Set `sysctl -w net.core.rmem_max=%d`, or give holdfastd CAP_NET_ADMIN",
                    spec->name, (unsigned long long)hold->receive_buffer, wanted, wanted);
}

static int set_receive_options(struct attempt *attempt, const struct channel_spec *spec)
{
    int error = 0;
    if (socket_address_is_multicast(&spec->listen))
        error = set_int(attempt, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    if (!error && attempt->is_v6)
        error = set_int(attempt, IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
    /* Only what this socket joined, not what any program on this machine joined. Old kernels lack
     * the IPv6 one. */
    if (!error && !attempt->is_v6)
        error = set_int(attempt, IPPROTO_IP, IP_MULTICAST_ALL, 0, "IP_MULTICAST_ALL");
    if (!error && attempt->is_v6)
        set_int(attempt, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0, "IPV6_MULTICAST_ALL");
    if (!error)
        error = set_int(attempt, SOL_SOCKET, SO_TIMESTAMPNS, 1, "SO_TIMESTAMPNS");
    if (!error)
        error = set_int(attempt, SOL_SOCKET, SO_RXQ_OVFL, 1, "SO_RXQ_OVFL");
    if (!error && spec->receive_offload)
        error = set_int(attempt, IPPROTO_UDP, UDP_GRO, 1, "UDP_GRO");
    if (!error && spec->busy_poll_us > 0 &&
        set_int(attempt, SOL_SOCKET, SO_BUSY_POLL, (int)spec->busy_poll_us, "SO_BUSY_POLL") < 0)
        log_warning(
            "channel %s: busy_poll has no effect: %s; give holdfastd CAP_NET_ADMIN, or remove it",
            spec->name, strerror(errno));
    return error;
}

static int change_membership(struct attempt *attempt, const struct channel_spec *spec,
                             unsigned interface, bool join)
{
    int level = attempt->is_v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    if (spec->source.family == 0) {
        struct group_req request = {.gr_interface = interface};
        int option = join ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP;
        memcpy(&request.gr_group, &spec->listen, socket_address_length(&spec->listen));
        attempt->step = "MCAST_JOIN_GROUP";
        return setsockopt(attempt->fd, level, option, &request, sizeof request) < 0 ? -errno : 0;
    }
    struct group_source_req request = {.gsr_interface = interface};
    int option = join ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP;
    memcpy(&request.gsr_group, &spec->listen, socket_address_length(&spec->listen));
    memcpy(&request.gsr_source, &spec->source, socket_address_length(&spec->source));
    attempt->step = "MCAST_JOIN_SOURCE_GROUP";
    return setsockopt(attempt->fd, level, option, &request, sizeof request) < 0 ? -errno : 0;
}

static bool is_address(const struct sockaddr *it, const union socket_address *own)
{
    if (!it || it->sa_family != own->family)
        return false;
    if (own->family == AF_INET)
        return ((const struct sockaddr_in *)it)->sin_addr.s_addr == own->v4.sin_addr.s_addr;
    return memcmp(&((const struct sockaddr_in6 *)it)->sin6_addr, &own->v6.sin6_addr,
                  sizeof own->v6.sin6_addr) == 0;
}

/* The interface whose address the kernel would send to this group from, which is where it joins
 * when it may choose. "" when that can't be told. */
static void find_chosen_interface(const struct channel_spec *spec, char ret_name[IF_NAMESIZE])
{
    union socket_address own = {0};
    socklen_t length = sizeof own;
    struct ifaddrs *all = NULL;
    int probe = socket(spec->listen.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe >= 0 &&
        connect(probe, &spec->listen.any, socket_address_length(&spec->listen)) == 0 &&
        getsockname(probe, &own.any, &length) == 0 && getifaddrs(&all) == 0)
        for (const struct ifaddrs *it = all; it; it = it->ifa_next)
            if (is_address(it->ifa_addr, &own))
                snprintf(ret_name, IF_NAMESIZE, "%s", it->ifa_name);
    freeifaddrs(all);
    fd_close(&probe);
}

static void note_membership(struct membership *membership, const struct channel_spec *spec,
                            unsigned interface)
{
    *membership = (struct membership){.index = interface};
    if (spec->interface[0])
        snprintf(membership->interface, sizeof membership->interface, "%s", spec->interface);
    else if (!interface || !if_indextoname(interface, membership->interface))
        find_chosen_interface(spec, membership->interface);
    if (!membership->index && membership->interface[0])
        membership->index = if_nametoindex(membership->interface);
}

/* Blocking on purpose: the receiver waits in recvmmsg(2), nobody else ever reads from it. */
static int open_receiver(struct hold *hold, const struct channel_spec *spec, char *why,
                         size_t why_size)
{
    struct attempt attempt = {.fd = -1, .is_v6 = spec->listen.family == AF_INET6, .step = "socket"};
    char address[SOCKET_ADDRESS_TEXT_SIZE];
    union socket_address local = spec->listen;
    bool is_group = socket_address_is_multicast(&local);
    unsigned interface = 0;

    socket_address_print(&local, address, sizeof address);
    snprintf(attempt.what, sizeof attempt.what, "listen on %s%s%s", address,
             spec->interface[0] ? " at " : "", spec->interface);
    attempt.fd = socket(local.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error = attempt.fd < 0 ? -errno : set_receive_options(&attempt, spec);
    if (!error)
        error = interface_index(&attempt, spec->interface, &interface);
    if (!error) {
        set_receive_buffer(&attempt, hold, spec);
        if (attempt.is_v6 && is_group && local.v6.sin6_scope_id == 0)
            local.v6.sin6_scope_id = interface; /* link-local groups can't be bound without */
        attempt.step = "bind";
        error = bind(attempt.fd, &local.any, socket_address_length(&local)) < 0 ? -errno : 0;
    }
    if (!interface && attempt.is_v6)
        interface = local.v6.sin6_scope_id;
    if (!error && is_group)
        error = change_membership(&attempt, spec, interface, true);
    if (error < 0)
        return fail(&attempt, error, why, why_size);
    hold->rx = attempt.fd;
    if (is_group)
        note_membership(&hold->membership, spec, interface);
    return 0;
}

/* ---- sending ---- */

static int set_multicast_out(struct attempt *attempt, const struct destination_spec *to,
                             unsigned interface)
{
    int ttl = (int)to->ttl, loop = to->loop != 0;
    int error;
    if (attempt->is_v6) {
        error = interface ? set_int(attempt, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)interface,
                                    "IPV6_MULTICAST_IF")
                          : 0;
        if (!error)
            error = set_int(attempt, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, ttl, "IPV6_MULTICAST_HOPS");
        if (!error)
            error =
                set_int(attempt, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, loop, "IPV6_MULTICAST_LOOP");
        return error;
    }
    struct ip_mreqn request = {.imr_ifindex = (int)interface};
    attempt->step = "IP_MULTICAST_IF";
    if (interface &&
        setsockopt(attempt->fd, IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof request) < 0)
        return -errno;
    error = set_int(attempt, IPPROTO_IP, IP_MULTICAST_TTL, ttl, "IP_MULTICAST_TTL");
    if (!error)
        error = set_int(attempt, IPPROTO_IP, IP_MULTICAST_LOOP, loop, "IP_MULTICAST_LOOP");
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
static int make_destination(int *ret_fd, const struct destination_spec *to, char *why,
                            size_t why_size)
{
    struct attempt attempt = {.fd = -1, .is_v6 = to->to.family == AF_INET6, .step = "socket"};
    describe_destination(&attempt, to);
    attempt.fd = socket(to->to.family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = attempt.fd < 0 ? -errno : 0;
    if (!error && !attempt.is_v6)
        error = set_int(&attempt, SOL_SOCKET, SO_BROADCAST, 1, "SO_BROADCAST");
    if (error < 0)
        return fail(&attempt, error, why, why_size);
    if (set_int(&attempt, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_WANTED, "SO_SNDBUFFORCE") < 0)
        set_int(&attempt, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_WANTED, "SO_SNDBUF");
    /* Nobody reads here: keep no stranger's datagrams. */
    set_int(&attempt, SOL_SOCKET, SO_RCVBUF, 0, "SO_RCVBUF");
    *ret_fd = attempt.fd;
    return 0;
}

static int reach_destination(struct attempt *attempt, const struct destination_spec *to,
                             unsigned *ret_interface)
{
    union socket_address peer = to->to;
    unsigned interface = 0;
    int error = interface_index(attempt, to->interface, &interface);
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

/* A socket that leads nowhere yet refuses what is sent on it (EDESTADDRREQ). A worker has the same
 * socket: once it is connected here, it is connected there. */
static void try_destination(struct hold *hold, const struct channel_spec *spec, uint32_t index)
{
    const struct destination_spec *to = &spec->destinations[index];
    struct destination_down *down = &hold->down[index];
    struct attempt attempt = {.fd = hold->destinations[index], .is_v6 = to->to.family == AF_INET6};
    char reason[sizeof down->reason];

    describe_destination(&attempt, to);
    int error = reach_destination(&attempt, to, &down->interface);
    if (error < 0) {
        describe_failure(&attempt, error, reason, sizeof reason);
        note_down(down, spec->name, reason);
    } else if (down->reason[0]) {
        log_notice("channel %s: \"%s\" can be reached now", spec->name, to->name);
        *down = (struct destination_down){.interface = down->interface};
    }
}

/* An interface that was deleted and made anew is another one, whatever its name: what is connected
 * through the former leads nowhere. */
static bool interface_changed(const struct destination_down *down,
                              const struct destination_spec *to)
{
    return to->interface[0] && if_nametoindex(to->interface) != down->interface;
}

void hold_sockets_try_down(struct hold *hold, const struct channel_spec *spec)
{
    for (uint32_t i = 0; i < hold->destination_count; i++)
        if (hold->destinations[i] >= 0 &&
            (hold->down[i].reason[0] || interface_changed(&hold->down[i], &spec->destinations[i])))
            try_destination(hold, spec, i);
}

/* ---- membership ---- */

static void note_gone(struct hold *hold, const struct channel_spec *spec, const char *why)
{
    struct membership *membership = &hold->membership;
    if (strcmp(membership->gone, why) == 0)
        return;
    snprintf(membership->gone, sizeof membership->gone, "%s", why);
    log_warning("channel %s: %s", spec->name, membership->gone);
}

/* Join at the interface as it is now. The kernel keeps the entry of an interface that is gone, and
 * would take a second one for the same as a mistake; that there may be none is no error. */
static void renew(struct hold *hold, const struct channel_spec *spec, unsigned index)
{
    struct membership *membership = &hold->membership;
    struct attempt attempt = {.fd = hold->rx, .is_v6 = spec->listen.family == AF_INET6};
    char why[sizeof membership->gone];
    change_membership(&attempt, spec, membership->index, false);
    if (spec->interface[0] == '\0')
        change_membership(&attempt, spec, 0, false);
    int error = change_membership(&attempt, spec, index, true);
    if (error < 0) {
        snprintf(why, sizeof why, "can't join the group at %s again: %s; tried every second",
                 membership->interface, strerror(-error));
        note_gone(hold, spec, why);
        return;
    }
    membership->index = index;
    if (membership->gone[0])
        log_notice("channel %s: interface %s is back; the group was joined anew on the same socket",
                   spec->name, membership->interface);
    membership->gone[0] = '\0';
}

void hold_sockets_look_at_membership(struct hold *hold, const struct channel_spec *spec)
{
    struct membership *membership = &hold->membership;
    char why[sizeof membership->gone];
    if (hold->rx < 0 || !socket_address_is_multicast(&spec->listen))
        return;
    if (membership->interface[0] == '\0') /* a socket that was adopted */
        note_membership(membership, spec, if_nametoindex(spec->interface));
    if (membership->interface[0] == '\0')
        return;
    unsigned index = if_nametoindex(membership->interface);
    if (index == 0) {
        snprintf(why, sizeof why,
                 "interface %s is gone: nothing can come in until it is back; see `ip link`",
                 membership->interface);
        note_gone(hold, spec, why);
    } else if (index != membership->index || membership->gone[0]) {
        if (!membership->gone[0]) /* gone and back between two looks */
            note_gone(hold, spec, "its interface was made anew");
        hold_ring_mark_gap(hold);
        renew(hold, spec, index);
    }
}

void hold_sockets_renew_membership(struct hold *hold, const struct channel_spec *spec)
{
    const struct membership *membership = &hold->membership;
    if (hold->rx >= 0 && membership->index && !membership->gone[0])
        renew(hold, spec, membership->index);
}

/* ---- from a supervisor before this one ---- */

/* Of what a socket can't be rid of, or nobody can tell by looking at it: what it was bound to and
 * has joined. Never 0. */
static uint64_t settings_digest(const struct channel_spec *spec)
{
    char text[2 * SOCKET_ADDRESS_TEXT_SIZE + IF_NAMESIZE] = "", listen[SOCKET_ADDRESS_TEXT_SIZE],
                                             source[SOCKET_ADDRESS_TEXT_SIZE] = "";
    uint64_t digest = 0xcbf29ce484222325ull;
    socket_address_print(&spec->listen, listen, sizeof listen);
    if (spec->source.family)
        socket_address_print_host(&spec->source, source, sizeof source);
    snprintf(text, sizeof text, "%s %s %s", listen, spec->interface, source);
    for (const char *at = text; *at; at++)
        digest = (digest ^ (uint8_t)*at) * 0x100000001b3ull;
    return digest ? digest : 1;
}

/* It keeps its queue, and gets the options of the present settings. */
static void adapt_receiver(struct hold *hold, const struct channel_spec *spec)
{
    struct attempt attempt = {.fd = hold->rx, .is_v6 = spec->listen.family == AF_INET6};
    bool is_group = socket_address_is_multicast(&spec->listen);
    if (set_int(&attempt, IPPROTO_UDP, UDP_GRO, spec->receive_offload ? 1 : 0, "UDP_GRO") < 0 &&
        spec->receive_offload)
        log_warning("channel %s: receive_offload has no effect on its socket: %s", spec->name,
                    strerror(errno));
    if (set_int(&attempt, SOL_SOCKET, SO_BUSY_POLL, (int)spec->busy_poll_us, "SO_BUSY_POLL") < 0 &&
        spec->busy_poll_us > 0)
        log_warning("channel %s: busy_poll has no effect: %s", spec->name, strerror(errno));
    set_receive_buffer(&attempt, hold, spec);
    if (is_group) { /* it has joined already, as a rule */
        unsigned interface = if_nametoindex(spec->interface);
        change_membership(&attempt, spec, interface, true);
        note_membership(&hold->membership, spec, interface);
    }
}

/* What it has joined can't be taken back without knowing it. */
static bool has_other_settings(const struct hold *hold, const struct channel_spec *spec)
{
    uint64_t digest = hold->page ? atomic_load(&hold->page->private.socket_settings) : 0;
    return digest != 0 && digest != settings_digest(spec);
}

int hold_sockets_open(struct hold *hold, const struct channel_spec *spec, char *why,
                      size_t why_size)
{
    bool adopted = hold->rx >= 0 && hold->receive_buffer == 0;
    if (adopted && has_other_settings(hold, spec)) {
        log_notice("channel %s: its interface or source has changed: a new socket is opened",
                   spec->name);
        fd_close(&hold->rx);
    }
    if (hold->rx < 0) {
        int error = open_receiver(hold, spec, why, why_size);
        if (error < 0)
            return error;
        hold->rx_is_new = hold->owes_gap = true;
        hold->socket_settings = settings_digest(spec);
        hold_ring_begin_drops(hold); /* a new socket's counter begins anew */
    } else if (adopted) {
        hold->socket_settings = settings_digest(spec);
        adapt_receiver(hold, spec);
    }
    for (uint32_t i = 0; i < hold->destination_count; i++) {
        if (hold->destinations[i] >= 0) {
            if (adopted) /* ttl, loop, interface */
                try_destination(hold, spec, i);
            continue;
        }
        int error = make_destination(&hold->destinations[i], &spec->destinations[i], why, why_size);
        if (error < 0)
            return error;
        try_destination(hold, spec, i);
    }
    return 0;
}
