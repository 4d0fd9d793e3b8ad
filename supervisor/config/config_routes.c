/* SPDX-License-Identifier: MIT */
/* Who listens where, and who feeds whom: no two channels may take the same datagrams, and none may
 * receive what it has sent itself, directly or through others. A loop of channels would multiply
 * one datagram without end. */
#include "supervisor/config/config_routes.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_spec.h"
#include "supervisor/config/settings.h"

static in_port_t port_of(const union socket_address *address)
{
    return address->family == AF_INET ? address->v4.sin_port : address->v6.sin6_port;
}

static bool is_wildcard(const union socket_address *address)
{
    if (address->family == AF_INET)
        return address->v4.sin_addr.s_addr == INADDR_ANY;
    return address->family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr);
}

static bool is_loopback(const union socket_address *address)
{
    if (address->family == AF_INET)
        return ntohl(address->v4.sin_addr.s_addr) >> 24 == 127;
    return address->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

/* The address alone: a scope is compared as interface. */
static bool same_host(const union socket_address *a, const union socket_address *b)
{
    if (a->family == AF_INET)
        return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    return IN6_ARE_ADDR_EQUAL(&a->v6.sin6_addr, &b->v6.sin6_addr);
}

/* An interface that is not named may be any. */
static bool may_be_same_interface(const char *a, const char *b)
{
    return a[0] == '\0' || b[0] == '\0' || strcmp(a, b) == 0;
}

static bool comparable(const union socket_address *a, const union socket_address *b)
{
    return (a->family == AF_INET || a->family == AF_INET6) && a->family == b->family &&
           port_of(a) == port_of(b);
}

/* Would these two sockets take each other's datagrams, or the second not open at all? */
static bool listens_collide(const struct channel_spec *a, const struct channel_spec *b)
{
    if (channel_spec_is_local(a) && channel_spec_is_local(b))
        return strcmp(a->local, b->local) == 0;
    if (!comparable(&a->listen, &b->listen))
        return false;
    if (is_wildcard(&a->listen) || is_wildcard(&b->listen))
        return true;
    if (!same_host(&a->listen, &b->listen))
        return false;
    if (!socket_address_is_multicast(&a->listen))
        return may_be_same_interface(a->interface, b->interface);
    bool other_sources = a->source.family != AF_UNSPEC && b->source.family != AF_UNSPEC &&
                         !socket_address_equal(&a->source, &b->source);
    return may_be_same_interface(a->interface, b->interface) && !other_sources;
}

static void check_listens(const struct config_draft *draft, struct config_error_list *errors)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    size_t count = draft->settings->channel_count;
    for (size_t later = 1; later < count; later++) {
        const struct config_channel *channel = &draft->channels[later];
        for (size_t i = 0; i < later; i++) {
            const struct config_channel *earlier = &draft->channels[i];
            if (!listens_collide(earlier->spec, channel->spec))
                continue;
            bool local = channel_spec_is_local(channel->spec);
            if (local)
                channel_spec_print_listen(channel->spec, text, sizeof text);
            else
                socket_address_print(&channel->spec->listen, text, sizeof text);
            config_error(errors, config_draft_key_line(SECTION_CHANNEL, channel->lines, "listen"),
                         "listen = \"%s\": channel \"%s\" receives there too, see line %d: give "
                         "one of them another %s",
                         text, earlier->spec->name,
                         config_draft_key_line(SECTION_CHANNEL, earlier->lines, "listen"),
                         local ? "name" : "port or address");
            break;
        }
    }
}

/* Does a datagram sent there arrive at this channel? What only the network could answer counts as
 * no. */
static bool feeds(const struct destination_spec *destination, const struct channel_spec *channel)
{
    if (!comparable(&destination->to, &channel->listen))
        return false;
    if (socket_address_is_multicast(&destination->to))
        return destination->loop && same_host(&destination->to, &channel->listen) &&
               may_be_same_interface(destination->interface, channel->interface);
    if (is_wildcard(&channel->listen))
        return is_loopback(&destination->to);
    return same_host(&destination->to, &channel->listen) &&
           may_be_same_interface(destination->interface, channel->interface);
}

/* ---- loops: a depth-first search over channels; an edge back into the path closes one ---- */

enum visit {
    VISIT_NEW,
    VISIT_ON_PATH,
    VISIT_DONE,
};

struct step {
    size_t channel;
    uint32_t destination; /* the next one to follow */
    size_t target;        /* and the next channel to compare it with */
};

struct search {
    const struct config_draft *draft;
    struct config_error_list *errors;
    enum visit *visits;
    struct step *path; /* as long as there are channels: no channel is on it twice */
    size_t length;
};

static void report_loop(const struct search *search, size_t closes_at, uint32_t destination_index)
{
    char loop[512] = "";
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    size_t used = 0, first = 0;
    const struct config_channel *channels = search->draft->channels;
    const struct config_channel *last = &channels[search->path[search->length - 1].channel];
    const struct destination_spec *destination = &last->spec->destinations[destination_index];
    int line = config_draft_destination_key_line(last, destination_index, "to");

    socket_address_print(&destination->to, text, sizeof text);
    while (search->path[first].channel != closes_at)
        first++;
    if (first == search->length - 1) {
        config_error(search->errors, line,
                     "to = \"%s\": this is where channel \"%s\" itself listens, it would receive "
                     "what it sends: "
                     "choose another address",
                     text, last->spec->name);
        return;
    }
    for (size_t i = first; i < search->length && used < sizeof loop; i++)
        used += (size_t)snprintf(loop + used, sizeof loop - used, "%s -> ",
                                 channels[search->path[i].channel].spec->name);
    config_error(search->errors, line,
                 "to = \"%s\": this closes a loop of channels, %s%s: break it at one of them", text,
                 loop, channels[closes_at].spec->name);
}

/* Follow the last channel on the path one edge further. false when it has no more. */
static bool follow_edge(struct search *search)
{
    struct step *step = &search->path[search->length - 1];
    size_t count = search->draft->settings->channel_count;
    const struct channel_spec *spec = search->draft->channels[step->channel].spec;
    for (; step->destination < channel_spec_destination_count(spec);
         step->destination++, step->target = 0) {
        while (step->target < count) {
            size_t target = step->target++;
            if (!feeds(&spec->destinations[step->destination],
                       search->draft->channels[target].spec))
                continue;
            if (search->visits[target] == VISIT_ON_PATH)
                report_loop(search, target, step->destination);
            if (search->visits[target] != VISIT_NEW)
                continue;
            search->visits[target] = VISIT_ON_PATH;
            search->path[search->length++] = (struct step){.channel = target};
            return true;
        }
    }
    return false;
}

static void check_loops(const struct config_draft *draft, struct config_error_list *errors)
{
    size_t count = draft->settings->channel_count;
    struct search search = {.draft = draft, .errors = errors};
    search.visits = calloc(count + 1, sizeof *search.visits);
    search.path = calloc(count + 1, sizeof *search.path);
    if (!search.visits || !search.path) {
        config_error(errors, 1, "there is not enough memory to look for loops of channels");
        count = 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (search.visits[i] != VISIT_NEW)
            continue;
        search.visits[i] = VISIT_ON_PATH;
        search.path[0] = (struct step){.channel = i};
        search.length = 1;
        while (search.length > 0) {
            if (follow_edge(&search))
                continue;
            search.visits[search.path[--search.length].channel] = VISIT_DONE;
        }
    }
    free(search.visits);
    free(search.path);
}

void config_routes_check(const struct config_draft *draft, struct config_error_list *errors)
{
    check_listens(draft, errors);
    check_loops(draft, errors);
}
