/* SPDX-License-Identifier: MIT */
/* Opens a channel's sockets: one bound for receiving, one connected per destination. Called when a
 * channel opens and opens again; what is open already stays as it is, with what the kernel has
 * queued in it. Must never leave a socket half configured: the receiver's is as the settings say,
 * or closed and the reason told; a destination's is connected, or it is down and refuses
 * everything. A destination must never keep a channel from receiving. */
#include "supervisor/hold/hold_sockets.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "supervisor/hold/hold_destinations.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/hold/membership.h"
#include "supervisor/hold/socket_attempt.h"

#ifndef UDP_GRO
#define UDP_GRO 104 /* linux/udp.h, which can't be included beside netinet/udp.h */
#endif
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

/* Datagrams that are discarded in one turn: well below a millisecond. */
#define DISCARD_CALLS 4
#define DISCARD_BATCH 64

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
    if (attempt_set(attempt, SOL_SOCKET, SO_RCVBUFFORCE, wanted, "SO_RCVBUFFORCE") < 0)
        attempt_set(attempt, SOL_SOCKET, SO_RCVBUF, wanted, "SO_RCVBUF");
    hold->receive_buffer = receive_buffer_given(attempt->fd);
    if (hold->receive_buffer < (uint64_t)wanted)
        log_warning("channel %s: the kernel gave a receive buffer of %llu bytes instead of %d; "
                    "bursts may be dropped. "
                    "Set `sysctl -w net.core.rmem_max=%d`, or give holdfastd CAP_NET_ADMIN",
                    spec->name, (unsigned long long)hold->receive_buffer, wanted, wanted);
}

static int set_receive_options(struct attempt *attempt, const struct hold *hold,
                               const struct channel_spec *spec)
{
    int error = 0;
    if (socket_address_is_multicast(&spec->listen))
        error = attempt_set(attempt, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    if (!error && attempt->is_v6)
        error = attempt_set(attempt, IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
    /* Only what this socket joined, not what any program on this machine joined. Old kernels lack
     * the IPv6 one. */
    if (!error && !attempt->is_v6)
        error = attempt_set(attempt, IPPROTO_IP, IP_MULTICAST_ALL, 0, "IP_MULTICAST_ALL");
    if (!error && attempt->is_v6)
        attempt_set(attempt, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0, "IPV6_MULTICAST_ALL");
    if (!error)
        error = attempt_set(attempt, SOL_SOCKET, SO_TIMESTAMPNS, 1, "SO_TIMESTAMPNS");
    if (!error)
        error = attempt_set(attempt, SOL_SOCKET, SO_RXQ_OVFL, 1, "SO_RXQ_OVFL");
    if (!error && hold->shape.receive_offload)
        error = attempt_set(attempt, IPPROTO_UDP, UDP_GRO, 1, "UDP_GRO");
    if (!error && spec->busy_poll_us > 0 &&
        attempt_set(attempt, SOL_SOCKET, SO_BUSY_POLL, (int)spec->busy_poll_us, "SO_BUSY_POLL") < 0)
        log_warning(
            "channel %s: busy_poll has no effect: %s; give holdfastd CAP_NET_ADMIN, or remove it",
            spec->name, strerror(errno));
    return error;
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
    int error = attempt.fd < 0 ? -errno : set_receive_options(&attempt, hold, spec);
    if (!error)
        error = attempt_interface(&attempt, spec->interface, &interface);
    if (!error) {
        set_receive_buffer(&attempt, hold, spec);
        if (attempt.is_v6 && interface)
            local.v6.sin6_scope_id = interface; /* what is link-local can't be bound without */
        attempt.step = "bind";
        error = bind(attempt.fd, &local.any, socket_address_length(&local)) < 0 ? -errno : 0;
    }
    if (!error && is_group)
        error = membership_change(&attempt, spec, interface, true);
    if (error < 0)
        return attempt_fail(&attempt, error, why, why_size);
    hold->rx = attempt.fd;
    if (is_group || socket_address_is_link_local(&local))
        membership_note(&hold->membership, spec, interface);
    return 0;
}

/* Of a channel with publishers: nobody can send to it. So the hold of every channel has the same
 * places, and what looks at a socket finds an empty one. */
static int open_stand_in(struct hold *hold, char *why, size_t why_size)
{
    struct attempt attempt = {.fd = -1, .what = "make a socket", .step = "socket"};
    attempt.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (attempt.fd < 0)
        return attempt_fail(&attempt, -errno, why, why_size);
    hold->rx = attempt.fd;
    hold->receive_buffer = receive_buffer_given(hold->rx);
    return 0;
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

static int set_offload(const struct hold *hold, int value)
{
    return setsockopt(hold->rx, IPPROTO_UDP, UDP_GRO, &value, sizeof value) < 0 ? -errno : 0;
}

/* Runs that the kernel has joined come out whole, as one datagram, once nobody asks for the length
 * of their parts. So it is switched off only where none waits: nobody reads meanwhile. */
static bool switch_offload_off(struct hold *hold)
{
    struct hold_queue queue;
    int value;
    socklen_t size = sizeof value;
    bool is_on = getsockopt(hold->rx, IPPROTO_UDP, UDP_GRO, &value, &size) == 0
                     ? value != 0
                     : hold->offloads; /* an older kernel doesn't tell */
    if (!is_on)
        return true;
    if (set_offload(hold, 0) == 0 && hold_ring_queue(hold, &queue) && queue.used == 0)
        return true;
    set_offload(hold, 1);
    return false;
}

void hold_sockets_follow_shape(struct hold *hold, const struct channel_spec *spec)
{
    int error = 0;
    if (hold->rx < 0)
        return;
    if (hold->shape.receive_offload) {
        error = set_offload(hold, 1);
    } else if (hold->ring >= 0) { /* it can't hold runs */
        set_offload(hold, 0);
    } else if (!switch_offload_off(hold)) {
        hold->offload_stays = true;
        hold_take_shape(hold, spec);
        log_notice("channel %s: receive_offload stays on until the channel is stopped and started, "
                   "or an upgrade finds its socket empty: what the kernel has joined waits there",
                   spec->name);
    }
    hold->offloads = hold->shape.receive_offload;
    if (error < 0)
        log_warning("channel %s: receive_offload has no effect on its socket: %s", spec->name,
                    strerror(-error));
}

/* It keeps its queue, and gets the options of the present settings. */
static void adapt_receiver(struct hold *hold, const struct channel_spec *spec)
{
    struct attempt attempt = {.fd = hold->rx, .is_v6 = spec->listen.family == AF_INET6};
    bool is_group = socket_address_is_multicast(&spec->listen);
    hold_sockets_follow_shape(hold, spec);
    if (channel_spec_is_local(spec)) {
        hold->receive_buffer = receive_buffer_given(hold->rx);
        return;
    }
    if (attempt_set(&attempt, SOL_SOCKET, SO_BUSY_POLL, (int)spec->busy_poll_us, "SO_BUSY_POLL") <
            0 &&
        spec->busy_poll_us > 0)
        log_warning("channel %s: busy_poll has no effect: %s", spec->name, strerror(errno));
    set_receive_buffer(&attempt, hold, spec);
    if (is_group || socket_address_is_link_local(&spec->listen))
        membership_adopt(hold, spec);
}

bool hold_sockets_have_other_settings(const struct hold *hold, const struct channel_spec *spec)
{
    uint64_t digest = hold->page ? atomic_load(&hold->page->private.socket_settings) : 0;
    return digest != 0 && digest != settings_digest(spec);
}

int hold_sockets_open(struct hold *hold, const struct channel_spec *spec, char *why,
                      size_t why_size)
{
    bool adopted = hold->rx >= 0 && hold->receive_buffer == 0;
    if (hold->rx < 0) {
        bool is_local = channel_spec_is_local(spec);
        int error = is_local ? open_stand_in(hold, why, why_size)
                             : open_receiver(hold, spec, why, why_size);
        if (error < 0)
            return error;
        hold->rx_is_new = true;
        hold->owes_gap = !is_local; /* what was published meanwhile is there */
        hold->socket_settings = settings_digest(spec);
        hold_ring_begin_drops(hold); /* a new socket's counter begins anew */
    } else if (adopted) {
        hold->socket_settings = settings_digest(spec);
        if (hold->page)
            atomic_store(&hold->page->private.socket_settings, hold->socket_settings);
        adapt_receiver(hold, spec);
    }
    if (adopted) /* ttl, loop, interface */
        for (uint32_t i = 0; i < hold->destination_count; i++)
            if (hold->destinations[i] >= 0)
                hold_destination_try(hold, spec, i);
    return hold_destinations_open(hold, spec, why, why_size);
}

/* ---- letting go ---- */

/* A connected socket takes only what its peer sends, and nobody sends from there: port 1 of this
 * machine. */
static union socket_address nobody(sa_family_t family)
{
    union socket_address address = {.family = family};
    if (family == AF_INET6) {
        address.v6.sin6_addr = in6addr_loopback;
        address.v6.sin6_port = htons(1);
    } else {
        address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.v4.sin_port = htons(1);
    }
    return address;
}

/* What can't be connected goes on as it is. */
void hold_sockets_mute(const struct hold *hold)
{
    union socket_address own = {0};
    socklen_t length = sizeof own;
    if (hold->rx < 0 || getsockname(hold->rx, &own.any, &length) < 0 ||
        (own.family == AF_INET && own.v4.sin_port == 0)) /* nobody can send to it anyhow */
        return;
    const union socket_address peer = nobody(own.family);
    if (connect(hold->rx, &peer.any, socket_address_length(&peer)) < 0)
        log_debug("a socket that is let go of still receives: %s", strerror(errno));
}

bool hold_sockets_is_muted(int rx)
{
    union socket_address peer = {0};
    socklen_t length = sizeof peer;
    if (getpeername(rx, &peer.any, &length) < 0)
        return false;
    const union socket_address expected = nobody(peer.family);
    return socket_address_equal(&peer, &expected);
}

void hold_sockets_keep(struct hold *hold)
{
    hold_sockets_mute(hold);
    hold->receive_buffer = hold->rx >= 0 ? receive_buffer_given(hold->rx) : 0;
}

/* With receive_offload one message may be a run of datagrams of the same length. */
static uint64_t count_datagrams(struct msghdr *header, uint32_t length)
{
    for (struct cmsghdr *it = CMSG_FIRSTHDR(header); it; it = CMSG_NXTHDR(header, it)) {
        int segment = 0;
        if (it->cmsg_level != SOL_UDP || it->cmsg_type != UDP_GRO)
            continue;
        memcpy(&segment, CMSG_DATA(it), sizeof segment);
        if (segment > 0 && length > (uint32_t)segment)
            return (length + (uint32_t)segment - 1) / (uint32_t)segment;
    }
    return 1;
}

/* Returns the messages that were taken, less than DISCARD_BATCH when no more are there. */
static int discard_batch(int rx, uint64_t *count)
{
    struct {
        _Alignas(struct cmsghdr) uint8_t bytes[256];
    } control[DISCARD_BATCH] = {0};
    struct mmsghdr messages[DISCARD_BATCH] = {0};
    char nothing;
    struct iovec part = {&nothing, 0};
    for (int i = 0; i < DISCARD_BATCH; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &part,
                                              .msg_iovlen = 1,
                                              .msg_control = control[i].bytes,
                                              .msg_controllen = sizeof control[i].bytes};
    int taken = recvmmsg(rx, messages, DISCARD_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
    for (int i = 0; i < taken; i++)
        *count += count_datagrams(&messages[i].msg_hdr, messages[i].msg_len);
    return taken < 0 && errno == EINTR ? DISCARD_BATCH : taken;
}

uint64_t hold_sockets_discard(const struct hold *hold, bool *ret_empty)
{
    uint64_t count = 0;
    int taken = hold->rx >= 0 ? DISCARD_BATCH : 0;
    for (int i = 0; i < DISCARD_CALLS && taken == DISCARD_BATCH; i++)
        taken = discard_batch(hold->rx, &count);
    *ret_empty = taken < DISCARD_BATCH;
    return count;
}
