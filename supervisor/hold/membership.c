/* SPDX-License-Identifier: MIT */
/* Which group a receiver has joined, and where. Asked by the regular look: an interface that is
 * deleted takes the membership with it, and the socket says nothing. A link-local address is bound
 * to its interface's number for good. Must never touch what the socket has queued. */
#include "supervisor/hold/membership.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/hold/joined_groups.h"

int membership_change(struct attempt *attempt, const struct channel_spec *spec, unsigned interface,
                      bool join)
{
    int level = attempt->is_v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    /* Leaving one source would be refused at an interface that is gone, and its entry would count
     * for ever; the group is left there with all its sources. */
    if (spec->source.family == 0 || !join) {
        struct group_req request = {.gr_interface = interface};
        int option = join ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP;
        memcpy(&request.gr_group, &spec->listen, socket_address_length(&spec->listen));
        attempt->step = "MCAST_JOIN_GROUP";
        return setsockopt(attempt->fd, level, option, &request, sizeof request) < 0 ? -errno : 0;
    }
    struct group_source_req request = {.gsr_interface = interface};
    memcpy(&request.gsr_group, &spec->listen, socket_address_length(&spec->listen));
    memcpy(&request.gsr_source, &spec->source, socket_address_length(&spec->source));
    attempt->step = "MCAST_JOIN_SOURCE_GROUP";
    return setsockopt(attempt->fd, level, MCAST_JOIN_SOURCE_GROUP, &request, sizeof request) < 0
               ? -errno
               : 0;
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

void membership_note(struct membership *membership, const struct channel_spec *spec,
                     unsigned interface)
{
    *membership = (struct membership){.index = interface};
    if (spec->interface[0])
        snprintf(membership->interface, sizeof membership->interface, "%s", spec->interface);
    else if (!interface || !if_indextoname(interface, membership->interface))
        find_chosen_interface(spec, membership->interface);
    if (!membership->index && membership->interface[0])
        attempt_find_interface(membership->interface, &membership->index);
}

static void note_gone(struct hold *hold, const struct channel_spec *spec, const char *why)
{
    struct membership *membership = &hold->membership;
    if (strcmp(membership->gone, why) == 0)
        return;
    snprintf(membership->gone, sizeof membership->gone, "%s", why);
    membership->down[0] = '\0';
    log_warning("channel %s: %s", spec->name, membership->gone);
}

/* Switched off, or nothing is at its other end. What was joined stays joined. */
static void look_at_state(struct hold *hold, const struct channel_spec *spec)
{
    struct membership *membership = &hold->membership;
    struct ifreq about = {0};
    char why[sizeof membership->down] = "";
    memcpy(about.ifr_name, membership->interface, IF_NAMESIZE);
    if (ioctl(hold->rx, SIOCGIFFLAGS, &about) < 0)
        return;
    bool is_up = about.ifr_flags & IFF_UP;
    if (!is_up || !(about.ifr_flags & IFF_RUNNING))
        snprintf(why, sizeof why, "interface %s %s: nothing can come in; see `ip link`",
                 membership->interface, is_up ? "has no carrier" : "is down");
    if (strcmp(membership->down, why) == 0)
        return;
    memcpy(membership->down, why, sizeof why);
    if (why[0])
        log_warning("channel %s: %s", spec->name, why);
    else
        log_notice("channel %s: interface %s is up again", spec->name, membership->interface);
}

/* Joining once more where it is a member is refused with one of these. */
static bool is_member_already(const struct channel_spec *spec, int error)
{
    return error == -EADDRINUSE || (spec->source.family && error == -EADDRNOTAVAIL);
}

/* What the socket was bound to: a name may stand for another interface by now. */
static unsigned bound_scope(const struct hold *hold)
{
    union socket_address own = {0};
    socklen_t length = sizeof own;
    bool known = getsockname(hold->rx, &own.any, &length) == 0 && own.family == AF_INET6;
    return known ? own.v6.sin6_scope_id : 0;
}

void membership_adopt(struct hold *hold, const struct channel_spec *spec)
{
    struct membership *membership = &hold->membership;
    struct attempt attempt = {.fd = hold->rx, .is_v6 = spec->listen.family == AF_INET6};
    unsigned interface;
    int error = attempt_interface(&attempt, spec->interface, &interface);
    *membership = (struct membership){0};
    if (error < 0 && error != -ENODEV)
        return; /* for want of descriptors, perhaps: the regular look asks again */
    if (!error && socket_address_is_multicast(&spec->listen))
        error = membership_change(&attempt, spec, interface, true);
    membership_note(membership, spec, interface);
    if (socket_address_is_link_local(&spec->listen)) {
        membership->index = bound_scope(hold);
        if (membership->index != interface || !socket_address_is_multicast(&spec->listen))
            return; /* at another one now, perhaps: the regular look sees that */
    }
    if (error == 0)
        hold_ring_mark_gap(hold);
    else if (!is_member_already(spec, error) ||
             (membership->index && !joined_groups_have(&spec->listen, membership->index)))
        membership->lost = true; /* the regular look says so, and joins when it can */
}

/* Join at the interface as it is now. The kernel keeps the entry of an interface that is gone, and
 * would take a second one for the same as a mistake; that there may be none is no error. */
static void renew(struct hold *hold, const struct channel_spec *spec, unsigned index)
{
    struct membership *membership = &hold->membership;
    struct attempt attempt = {.fd = hold->rx, .is_v6 = spec->listen.family == AF_INET6};
    char why[sizeof membership->gone];
    membership_change(&attempt, spec, membership->index, false);
    if (spec->interface[0] == '\0')
        membership_change(&attempt, spec, 0, false);
    int error = membership_change(&attempt, spec, index, true);
    if (is_member_already(spec, error)) { /* an entry of a supervisor before this one */
        membership_change(&attempt, spec, index, false);
        error = membership_change(&attempt, spec, index, true);
    }
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
    membership->lost = membership->uncertain = false;
}

/* The kernel goes by the number: what comes in there still comes in. Also when nobody can be asked.
 */
static bool is_renamed(const struct membership *membership)
{
    char name[IF_NAMESIZE];
    return !membership->gone[0] && !membership->lost && membership->index &&
           (if_indextoname(membership->index, name) || (errno != ENXIO && errno != ENODEV));
}

/* Nobody asked for the one that is gone: the route may lead elsewhere by now. */
static unsigned choose_another(struct membership *membership, const struct channel_spec *spec)
{
    char name[IF_NAMESIZE] = "";
    unsigned index = 0;
    find_chosen_interface(spec, name);
    if (name[0])
        attempt_find_interface(name, &index);
    if (index)
        snprintf(membership->interface, sizeof membership->interface, "%s", name);
    return index;
}

/* It is there, but not as it was. false when the socket can't follow. */
static bool follow(struct hold *hold, const struct channel_spec *spec, unsigned index)
{
    struct membership *membership = &hold->membership;
    if (!membership->gone[0]) /* gone and back between two looks */
        note_gone(hold, spec, "its interface was made anew");
    if (socket_address_is_link_local(&spec->listen) && index != membership->index)
        return false;
    hold_ring_mark_gap(hold);
    if (socket_address_is_multicast(&spec->listen))
        renew(hold, spec, index);
    else
        membership->gone[0] = '\0', membership->lost = false;
    return true;
}

bool membership_look(struct hold *hold, const struct channel_spec *spec)
{
    struct membership *membership = &hold->membership;
    char why[sizeof membership->gone];
    unsigned index;
    bool is_group = socket_address_is_multicast(&spec->listen);
    if (hold->rx < 0 || (!is_group && !socket_address_is_link_local(&spec->listen)))
        return false;
    if (membership->interface[0] == '\0' && membership->lost)
        choose_another(membership, spec);
    else if (membership->interface[0] == '\0') /* nobody could be asked when it was adopted */
        membership_adopt(hold, spec);
    if (membership->interface[0] == '\0' && !membership->lost)
        return false;
    if (attempt_find_interface(membership->interface, &index) < 0)
        return false; /* for want of descriptors, perhaps: the next look will tell */
    if (index == 0 && is_renamed(membership))
        return false;
    if (index == 0 && spec->interface[0] == '\0')
        index = choose_another(membership, spec);
    if (index == 0) {
        snprintf(why, sizeof why,
                 "interface %s is gone: nothing can come in until it is back; see `ip link`",
                 membership->interface[0] ? membership->interface : "of the route to the group");
        note_gone(hold, spec, why);
    } else if (index != membership->index || membership->gone[0] || membership->lost) {
        return !follow(hold, spec, index);
    } else {
        if (membership->uncertain && is_group)
            renew(hold, spec, index);
        look_at_state(hold, spec);
    }
    return false;
}

void membership_interface_gone(struct membership *membership, unsigned index)
{
    if (index == 0)
        membership->uncertain = true;
    else if (index == membership->index)
        membership->lost = true;
}

void membership_renew(struct hold *hold, const struct channel_spec *spec)
{
    const struct membership *membership = &hold->membership;
    if (hold->rx >= 0 && membership->index && !membership->gone[0] &&
        socket_address_is_multicast(&spec->listen))
        renew(hold, spec, membership->index);
}
