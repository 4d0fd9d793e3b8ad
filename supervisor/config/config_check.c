/* SPDX-License-Identifier: MIT */
/* The rules that hold between values of one channel or of the whole file. Called once every value
 * by itself is known to be right, or has been reported and replaced by its default. An address that
 * could not be read has family 0 and is passed over. Who listens where and who feeds whom is in
 * config_routes.c. */
#include "supervisor/config/config_check.h"

#include <net/if.h>
#include <string.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/read_protocol.h"
#include "common/units.h"
#include "supervisor/config/config_keys.h"
#include "supervisor/config/config_routes.h"
#include "supervisor/config/settings.h"

_Static_assert(CHANNEL_SEGMENT_SIZE_MIN >= 4 * (CHANNEL_DATAGRAM_MAX + SOCKET_ADDRESS_TEXT_SIZE +
                                                AVRO_LOG_RECORD_OVERHEAD) +
                                               AVRO_LOG_HEADER_MAX,
               "the smallest segment holds its header and four records of any size");

/* ---- one address and the interface beside it ---- */

struct endpoint {
    const char *key; /* listen or to */
    const union socket_address *address;
    const char *interface;
    int line;
    int interface_line;
};

static void check_endpoint(const struct endpoint *endpoint, struct config_error_list *errors)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    const union socket_address *address = endpoint->address;
    bool multicast = socket_address_is_multicast(address);
    bool named = endpoint->interface[0] != '\0';
    if (address->family == AF_UNSPEC || address->family == AF_UNIX)
        return;
    socket_address_print(address, text, sizeof text);
    bool link_local = socket_address_is_link_local(address);
    if (named && !multicast && !link_local)
        config_error(errors, endpoint->interface_line,
                     "interface = \"%s\": %s is no multicast group, only groups take an interface: "
                     "remove it",
                     endpoint->interface, text);
    else if (link_local && !named)
        config_error(errors, endpoint->line,
                     "%s = \"%s\": a link-local address needs to know its link: %s", endpoint->key,
                     text,
                     multicast ? "add interface = \"NAME\""
                               : "write %NAME of the interface behind the address");
}

/* ---- one channel ---- */

static bool is_any(const union socket_address *address)
{
    return (address->family == AF_INET && address->v4.sin_addr.s_addr == INADDR_ANY) ||
           (address->family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr));
}

static bool is_broadcast(const union socket_address *address)
{
    return address->family == AF_INET && address->v4.sin_addr.s_addr == INADDR_BROADCAST;
}

static void check_source(const struct config_channel *channel, struct config_error_list *errors)
{
    const struct channel_spec *spec = channel->spec;
    int line = config_draft_key_line(SECTION_CHANNEL, channel->lines, "source");
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    if (spec->source.family == AF_UNSPEC || spec->listen.family == AF_UNSPEC ||
        channel_spec_is_local(spec))
        return;
    socket_address_print_host(&spec->source, text, sizeof text);
    if (!socket_address_is_multicast(&spec->listen))
        config_error(errors, line,
                     "source = \"%s\": listen is no multicast group, only a group can be joined by "
                     "source: remove it",
                     text);
    else if (spec->source.family != spec->listen.family)
        config_error(errors, line,
                     "source = \"%s\": listen is %s: give an address of the same kind", text,
                     spec->listen.family == AF_INET ? "IPv4" : "IPv6");
    else if (socket_address_is_multicast(&spec->source))
        config_error(errors, line,
                     "source = \"%s\": this is a group: give the sender's own address", text);
    else if (is_any(&spec->source) || is_broadcast(&spec->source))
        config_error(errors, line,
                     "source = \"%s\": nobody sends from that: give the sender's own address, or "
                     "remove it to take all",
                     text);
}

static void check_ring(const struct config_channel *channel, struct config_error_list *errors)
{
    const struct channel_spec *spec = channel->spec;
    struct channel_geometry geometry;
    char have[32], need[32];
    channel_geometry_compute(spec, &geometry);
    if (spec->ring_size >= 8ull * geometry.slot_size)
        return;
    units_print_size(spec->ring_size, have, sizeof have);
    units_print_size(8ull * geometry.slot_size, need, sizeof need);
    config_error(errors, config_draft_key_line(SECTION_CHANNEL, channel->lines, "ring_size"),
                 "ring_size = \"%s\": too small for %s: make it at least %s", have,
                 spec->receive_offload ? "receive_offload, whose runs take 64K each"
                                       : "eight datagrams of max_datagram",
                 need);
}

static void check_record(const struct config_channel *channel, struct config_error_list *errors)
{
    const struct record_spec *record = &channel->spec->record;
    char keep[32], segment[32];
    if (!record->enabled || record->keep_at_most == 0 ||
        record->keep_at_most / 2 >= record->segment_size)
        return;
    units_print_size(record->keep_at_most, keep, sizeof keep);
    units_print_size(record->segment_size, segment, sizeof segment);
    config_error(errors,
                 config_draft_key_line(SECTION_RECORD, channel->record_lines, "keep_at_most"),
                 "keep_at_most = \"%s\": less than two segments of segment_size = \"%s\": keep "
                 "more or make segments "
                 "smaller",
                 keep, segment);
}

/* ---- a channel that programs write into ---- */

/* "" counts as not given. */
static bool is_left_empty(const struct channel_spec *spec, const char *key)
{
    return (strcmp(key, "interface") == 0 && spec->interface[0] == '\0') ||
           (strcmp(key, "source") == 0 && spec->source.family == AF_UNSPEC);
}

static void check_socket_keys(const struct config_channel *channel,
                              struct config_error_list *errors)
{
    const struct config_section_info *info = &config_sections[SECTION_CHANNEL];
    for (size_t i = 0; i < info->key_count; i++) {
        const char *key = info->keys[i].name;
        if (info->keys[i].needs_socket &&
            config_draft_key_is_given(SECTION_CHANNEL, channel->lines, key) &&
            !is_left_empty(channel->spec, key))
            config_error(errors, config_draft_key_line(SECTION_CHANNEL, channel->lines, key),
                         "%s: listen = \"local:%s\" has no socket, programs write into shared "
                         "memory: remove it",
                         key, channel->spec->local);
    }
}

static int publishers_line(const struct config_channel *channel, const char *key)
{
    return channel->publishers_lines
               ? config_draft_key_line(SECTION_PUBLISHERS, channel->publishers_lines, key)
               : channel->lines->line;
}

static void check_publishers(const struct config_channel *channel, struct config_error_list *errors)
{
    const struct channel_spec *spec = channel->spec;
    const struct publishers_spec *publishers = &spec->publishers;
    uint64_t least = channel_spec_outbox_least(spec->max_datagram);
    char have[32], need[32];
    if (publishers->outbox_size >= least)
        return;
    units_print_size(publishers->outbox_size, have, sizeof have);
    units_print_size((least + 4095) / 4096 * 4096, need, sizeof need);
    config_error(errors, publishers_line(channel, "outbox_size"),
                 "outbox_size = \"%s\": too small for two datagrams of max_datagram: make it at "
                 "least %s",
                 have, need);
}

static void check_local(const struct config_draft *draft, const struct config_channel *channel,
                        struct config_error_list *errors)
{
    const struct channel_spec *spec = channel->spec;
    if (!channel_spec_is_local(spec)) {
        if (channel->publishers_lines && spec->listen.family != AF_UNSPEC)
            config_error(errors, channel->publishers_lines->line,
                         "publishers: channel \"%s\" listens on a socket, and whoever reaches it "
                         "may send: remove the section, or write listen = \"local:NAME\"",
                         spec->name);
        return;
    }
    check_socket_keys(channel, errors);
    check_publishers(channel, errors);
    if (spec->record.enabled && spec->record.on_full != RECORD_ON_FULL_WAIT)
        config_error(errors,
                     config_draft_key_line(SECTION_RECORD, channel->record_lines, "on_full"),
                     "on_full = \"lap\": publishers can wait, so nothing need be lost: write "
                     "\"wait\", or remove it");
    if (!draft->settings->read_enabled)
        config_error(errors, config_draft_key_line(SECTION_CHANNEL, channel->lines, "listen"),
                     "listen = \"local:%s\": programs reach it at the read socket, and read { "
                     "enabled = false } leaves none: enable it",
                     spec->local);
}

/* ---- one channel's destinations, and all of it ---- */

static void check_destination(const struct config_channel *channel, uint32_t index,
                              struct config_error_list *errors)
{
    const struct destination_spec *destination = &channel->spec->destinations[index];
    const struct config_section_lines *lines = config_draft_destination_lines(channel, index);
    const union socket_address *to = &destination->to;
    int line = config_draft_destination_key_line(channel, index, "to");
    check_endpoint(
        &(struct endpoint){"to", to, destination->interface, line,
                           config_draft_destination_key_line(channel, index, "interface")},
        errors);
    if (is_broadcast(to))
        config_error(errors, line,
                     "to: broadcast is not supported: send to a multicast group instead");
    else if (is_any(to))
        config_error(errors, line,
                     "to: this address means \"any\" and nobody can be reached at it: name one");
    if (destination->kind != DESTINATION_DECIMATE)
        return;
    /* By what was written, not by value: a wrong value has been reported already and counts as
     * given. */
    bool every = config_draft_key_is_given(SECTION_DECIMATE, lines, "keep_every");
    bool rate = config_draft_key_is_given(SECTION_DECIMATE, lines, "max_rate");
    if (every && rate)
        config_error(errors, lines->line,
                     "decimate \"%s\" has both keep_every and max_rate: keep one of them",
                     destination->name);
    else if (!every && !rate)
        config_error(errors, lines->line,
                     "decimate \"%s\" has no rule: add keep_every = N or max_rate = N",
                     destination->name);
}

/* May datagrams for one also be datagrams for the other? */
static bool same_target(const struct destination_spec *a, const struct destination_spec *b)
{
    if (a->to.family == AF_UNSPEC || !socket_address_equal(&a->to, &b->to))
        return false;
    return strcmp(a->interface, b->interface) == 0 || a->interface[0] == '\0' ||
           b->interface[0] == '\0';
}

static void check_destination_pair(const struct config_channel *channel, uint32_t earlier,
                                   uint32_t later, struct config_error_list *errors)
{
    const struct destination_spec *a = &channel->spec->destinations[earlier];
    const struct destination_spec *b = &channel->spec->destinations[later];
    if (a->kind != b->kind && strcmp(a->name, b->name) == 0)
        config_error(
            errors, config_draft_destination_lines(channel, later)->line,
            "%s \"%s\": a %s of this channel has the same name, in line %d: rename one of them",
            config_draft_destination_kind(b), b->name, config_draft_destination_kind(a),
            config_draft_destination_lines(channel, earlier)->line);
    if (same_target(a, b)) {
        char text[SOCKET_ADDRESS_TEXT_SIZE];
        socket_address_print(&b->to, text, sizeof text);
        config_error(
            errors, config_draft_destination_key_line(channel, later, "to"),
            "to = \"%s\": %s \"%s\" of this channel goes to the same address: remove one of them",
            text, config_draft_destination_kind(a), a->name);
    }
}

static void check_channel(const struct config_draft *draft, const struct config_channel *channel,
                          struct config_error_list *errors)
{
    const struct channel_spec *spec = channel->spec;
    uint32_t count = channel_spec_destination_count(spec);
    check_endpoint(
        &(struct endpoint){"listen", &spec->listen, spec->interface,
                           config_draft_key_line(SECTION_CHANNEL, channel->lines, "listen"),
                           config_draft_key_line(SECTION_CHANNEL, channel->lines, "interface")},
        errors);
    check_source(channel, errors);
    check_ring(channel, errors);
    check_record(channel, errors);
    check_local(draft, channel, errors);
    if (count == 0 && !spec->record.enabled)
        config_error(
            errors, channel->lines->line,
            "channel \"%s\" does nothing with its data: add a relay, decimate or record section",
            spec->name);
    if (count > CHANNEL_DESTINATIONS_MAX) {
        config_error(errors, channel->lines->line,
                     "channel \"%s\" has %u relays and decimates: at most %d are possible, let one "
                     "of them go to a "
                     "multicast group instead",
                     spec->name, count, CHANNEL_DESTINATIONS_MAX);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        check_destination(channel, i, errors);
        for (uint32_t earlier = 0; earlier < i; earlier++)
            check_destination_pair(channel, earlier, i, errors);
    }
}

/* ---- the whole ---- */

static void check_restart(const struct config_draft *draft, struct config_error_list *errors)
{
    const struct restart_limits *restart = &draft->settings->restart;
    char first[32], most[32];
    if (restart->first_delay_ns <= restart->max_delay_ns)
        return;
    units_print_duration(restart->first_delay_ns, first, sizeof first);
    units_print_duration(restart->max_delay_ns, most, sizeof most);
    /* The defaults are in order: one of the two was written, so the section is there. */
    config_error(
        errors,
        config_draft_key_line(SECTION_RESTART, draft->text->sections[SECTION_RESTART],
                              "first_delay"),
        "first_delay = \"%s\" is longer than max_delay = \"%s\": lower one or raise the other",
        first, most);
}

/* Of a section that stands in the file at most once; the first line when it doesn't. */
static int single_line(const struct config_draft *draft, enum config_section section,
                       const char *key)
{
    if (draft->text->section_counts[section] == 0)
        return 1;
    return config_draft_key_line(section, draft->text->sections[section], key);
}

/* Two paths that are spelled differently may still be one; then the second socket isn't made, and
 * the log says why. */
static void check_read(const struct config_draft *draft, struct config_error_list *errors)
{
    const struct settings *settings = draft->settings;
    bool given = config_draft_read_is_given(draft, "socket");
    int line = given ? single_line(draft, SECTION_READ, "socket")
                     : single_line(draft, SECTION_CONTROL, "socket");
    const char *slash = strrchr(settings->control_socket, '/');
    size_t folder = slash ? (size_t)(slash - settings->control_socket) + 1 : 0;
    if (!settings->read_enabled)
        return;
    if (!given && folder + strlen(READ_SOCKET_NAME) >= sizeof settings->read_socket)
        config_error(errors, line,
                     "socket = \"%s\": there is no room in its path for %s, the readers' socket "
                     "beside it: add read { socket = \"PATH\" }, or read { enabled = false }",
                     settings->control_socket, READ_SOCKET_NAME);
    else if (strcmp(settings->read_socket, settings->control_socket) == 0)
        config_error(errors, line,
                     "read { socket = \"%s\" }: that is the control socket: give one of them "
                     "another path, or write read { enabled = false }",
                     settings->read_socket);
    if (socket_address_is_multicast(&settings->read_tcp) ||
        socket_address_is_link_local(&settings->read_tcp))
        config_error(errors, single_line(draft, SECTION_READ, "tcp"),
                     "tcp: readers can't connect to such an address: write one of this machine's "
                     "that means one thing everywhere, such as 127.0.0.1:7400");
}

static void check_limits(const struct config_draft *draft, struct config_error_list *errors)
{
    const struct gate_limits *limits = &draft->settings->read_limits;
    if (limits->connections_per_user > limits->connections)
        config_error(errors, single_line(draft, SECTION_READ, "connections_per_user"),
                     "connections_per_user = %u: more than connections = %u: lower one or raise "
                     "the other",
                     limits->connections_per_user, limits->connections);
}

void config_check(const struct config_draft *draft, struct config_error_list *errors)
{
    size_t count = draft->settings->channel_count;
    if (count == 0)
        config_error(errors, 1, "there is no channel: add at least one channel \"NAME\" { ... }");
    check_restart(draft, errors);
    check_read(draft, errors);
    check_limits(draft, errors);
    for (size_t i = 0; i < count; i++)
        check_channel(draft, &draft->channels[i], errors);
    config_routes_check(draft, errors);
}
