/* SPDX-License-Identifier: MIT */
/* Socket addresses as text, and the limits of a channel's settings. Called by the configuration, by
 * workers that were handed a spec, and by the recorder for every new source. Must never believe a
 * spec because of where it came from, and must never look up a host name: a resolver blocks. */
#include "common/channel_spec.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- addresses ---- */

socklen_t socket_address_length(const union socket_address *address)
{
    switch (address->family) {
    case AF_INET:
        return sizeof address->v4;
    case AF_INET6:
        return sizeof address->v6;
    default:
        return 0;
    }
}

static char *put_number(char *to, uint32_t value)
{
    char digits[10];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    while (count > 0)
        *to++ = digits[--count];
    return to;
}

static char *put_ipv4(char *to, const uint8_t bytes[4])
{
    for (int i = 0; i < 4; i++) {
        if (i > 0)
            *to++ = '.';
        to = put_number(to, bytes[i]);
    }
    return to;
}

/* The kernel takes almost any byte in an interface name; the log's source is an Avro string and
 * must be UTF-8. */
static bool is_plain_text(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

static char *put_ipv6(char *to, const struct sockaddr_in6 *address, const char *interface)
{
    /* Cannot fail: the family is right and the room is there. */
    inet_ntop(AF_INET6, &address->sin6_addr, to, INET6_ADDRSTRLEN);
    to += strlen(to);
    if (interface[0]) {
        *to++ = '%';
        to = stpcpy(to, interface);
    } else if (address->sin6_scope_id != 0) {
        char name[IF_NAMESIZE];
        *to++ = '%';
        if (if_indextoname(address->sin6_scope_id, name) && is_plain_text(name))
            to = stpcpy(to, name);
        else
            to = put_number(to, address->sin6_scope_id);
    }
    return to;
}

static size_t copy_text(const char *text, const char *end, char *buffer, size_t size)
{
    size_t length = (size_t)(end - text);
    if (size == 0)
        return 0;
    if (length > size - 1)
        length = size - 1;
    memcpy(buffer, text, length);
    buffer[length] = '\0';
    return length;
}

size_t socket_address_print_at(const union socket_address *address, const char *interface,
                               char *buffer, size_t size)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    char *end = text;
    bool has_scope = socket_address_is_link_local(address);
    if (address->family == AF_INET) {
        end = put_ipv4(end, (const uint8_t *)&address->v4.sin_addr);
        *end++ = ':';
        end = put_number(end, ntohs(address->v4.sin_port));
    } else if (address->family == AF_INET6) {
        *end++ = '[';
        end = put_ipv6(end, &address->v6, has_scope && is_plain_text(interface) ? interface : "");
        *end++ = ']';
        *end++ = ':';
        end = put_number(end, ntohs(address->v6.sin6_port));
    } else if (address->family == AF_UNIX) {
        end += local_address_print(&address->local, text, sizeof text);
    }
    return copy_text(text, end, buffer, size);
}

size_t socket_address_print(const union socket_address *address, char *buffer, size_t size)
{
    return socket_address_print_at(address, "", buffer, size);
}

size_t socket_address_print_host(const union socket_address *address, char *buffer, size_t size)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    char *end = text;
    if (address->family == AF_INET)
        end = put_ipv4(end, (const uint8_t *)&address->v4.sin_addr);
    else if (address->family == AF_INET6)
        end = put_ipv6(end, &address->v6, "");
    else if (address->family == AF_UNIX)
        end += local_address_print(&address->local, text, sizeof text);
    return copy_text(text, end, buffer, size);
}

static int parse_number(const char *text, uint64_t most, uint64_t *ret)
{
    uint64_t value = 0;
    if (*text == '\0')
        return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > most)
            return -EINVAL;
    }
    *ret = value;
    return 0;
}

static int find_scope(const char *name, uint32_t *ret_index)
{
    uint64_t number;
    char same[IF_NAMESIZE];
    unsigned index = if_nametoindex(name);
    if (index == 0 && parse_number(name, UINT32_MAX, &number) == 0 &&
        if_indextoname((unsigned)number, same))
        index = (unsigned)number;
    if (index == 0)
        return -ENODEV;
    *ret_index = index;
    return 0;
}

static int parse_ipv6_host(const char *text, struct sockaddr_in6 *ret, char ret_scope[IF_NAMESIZE])
{
    char host[INET6_ADDRSTRLEN];
    const char *percent = strchrnul(text, '%');
    size_t length = (size_t)(percent - text);
    if (length >= sizeof host)
        return -EINVAL;
    memcpy(host, text, length);
    host[length] = '\0';
    ret->sin6_family = AF_INET6;
    if (inet_pton(AF_INET6, host, &ret->sin6_addr) != 1)
        return -EINVAL;
    if (*percent && !interface_name_is_valid(percent + 1))
        return -EINVAL;
    snprintf(ret_scope, IF_NAMESIZE, "%s", *percent ? percent + 1 : "");
    return 0;
}

int socket_address_parse_host(const char *text, union socket_address *ret_address,
                              char ret_scope[IF_NAMESIZE])
{
    union socket_address address;
    memset(&address, 0, sizeof address);
    ret_scope[0] = '\0';
    if (strchr(text, ':')) {
        int result = parse_ipv6_host(text, &address.v6, ret_scope);
        if (result < 0)
            return result;
    } else {
        address.family = AF_INET;
        if (inet_pton(AF_INET, text, &address.v4.sin_addr) != 1)
            return -EINVAL;
    }
    *ret_address = address;
    return 0;
}

int socket_address_parse_scoped(const char *text, union socket_address *ret_address,
                                char ret_scope[IF_NAMESIZE])
{
    char host[SOCKET_ADDRESS_TEXT_SIZE];
    bool bracket = *text == '[';
    const char *start = bracket ? text + 1 : text;
    const char *end = bracket ? strchr(start, ']') : strchr(start, ':');
    if (!end || (size_t)(end - start) >= sizeof host || (bracket && end[1] != ':'))
        return -EINVAL;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';

    uint64_t port;
    if (parse_number(end + (bracket ? 2 : 1), UINT16_MAX, &port) < 0 || port == 0)
        return -EINVAL;
    union socket_address address;
    int result = socket_address_parse_host(host, &address, ret_scope);
    if (result < 0)
        return result;
    /* Brackets and only brackets hold IPv6: else its last group would be taken for a port. */
    if (bracket != (address.family == AF_INET6))
        return -EINVAL;
    if (bracket)
        address.v6.sin6_port = htons((uint16_t)port);
    else
        address.v4.sin_port = htons((uint16_t)port);
    *ret_address = address;
    return 0;
}

int socket_address_parse(const char *text, union socket_address *ret_address)
{
    char scope[IF_NAMESIZE];
    union socket_address address;
    int result = socket_address_parse_scoped(text, &address, scope);
    if (result == 0 && scope[0])
        result = find_scope(scope, &address.v6.sin6_scope_id);
    if (result == 0)
        *ret_address = address;
    return result;
}

int socket_address_parse_local(const char *text, union socket_address *ret_address)
{
    union socket_address address;
    memset(&address, 0, sizeof address);
    int result = local_address_parse(text, &address.local);
    if (result == 0)
        *ret_address = address;
    return result;
}

void socket_address_local(uint32_t uid, uint32_t pid, const char *name,
                          union socket_address *ret_address)
{
    memset(ret_address, 0, sizeof *ret_address);
    local_address_make(uid, pid, name, &ret_address->local);
}

bool socket_address_is_link_local(const union socket_address *address)
{
    if (address->family != AF_INET6)
        return false;
    const struct in6_addr *host = &address->v6.sin6_addr;
    return IN6_IS_ADDR_LINKLOCAL(host) || IN6_IS_ADDR_MC_LINKLOCAL(host) ||
           IN6_IS_ADDR_MC_NODELOCAL(host);
}

bool socket_address_is_multicast(const union socket_address *address)
{
    if (address->family == AF_INET)
        return IN_MULTICAST(ntohl(address->v4.sin_addr.s_addr));
    return address->family == AF_INET6 && IN6_IS_ADDR_MULTICAST(&address->v6.sin6_addr);
}

bool socket_address_equal(const union socket_address *a, const union socket_address *b)
{
    if (a->family != b->family)
        return false;
    if (a->family == AF_INET)
        return a->v4.sin_port == b->v4.sin_port && a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    if (a->family == AF_INET6)
        return a->v6.sin6_port == b->v6.sin6_port && a->v6.sin6_scope_id == b->v6.sin6_scope_id &&
               IN6_ARE_ADDR_EQUAL(&a->v6.sin6_addr, &b->v6.sin6_addr);
    if (a->family == AF_UNIX)
        return local_address_equal(&a->local, &b->local);
    return true;
}

/* ---- names ---- */

static bool is_name_byte(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9');
}

bool channel_name_is_valid(const char *name)
{
    size_t length = strnlen(name, CHANNEL_NAME_SIZE);
    if (length == 0 || length == CHANNEL_NAME_SIZE || !is_name_byte(name[0]))
        return false;
    for (size_t i = 1; i < length; i++)
        if (!is_name_byte(name[i]) && name[i] != '_' && name[i] != '-')
            return false;
    return true;
}

/* What dev_valid_name() of the kernel takes, without the bytes that no terminal shows. */
bool interface_name_is_valid(const char *name)
{
    size_t length = strnlen(name, IF_NAMESIZE);
    if (length == 0 || length == IF_NAMESIZE || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    return is_plain_text(name) && !strpbrk(name, "/:%");
}

/* ---- a spec from the other side of a process boundary ---- */

static bool is_address(const union socket_address *address)
{
    if (address->family == AF_INET)
        return address->v4.sin_port != 0;
    return address->family == AF_INET6 && address->v6.sin6_port != 0;
}

static bool is_optional_interface(const char name[IF_NAMESIZE])
{
    return name[0] == '\0' || interface_name_is_valid(name);
}

static const char *check_destination(const struct destination_spec *destination,
                                     enum destination_kind kind)
{
    if (!channel_name_is_valid(destination->name))
        return "a destination's name";
    if (destination->kind != (uint32_t)kind)
        return "a destination's kind";
    if (destination->ttl > 255)
        return "a destination's ttl";
    if (destination->loop > 1)
        return "a destination's loop";
    if (!is_optional_interface(destination->interface))
        return "a destination's interface";
    if (!is_address(&destination->to))
        return "a destination's address";
    if (destination->keep_every > CHANNEL_DECIMATE_MAX)
        return "a destination's keep_every";
    if (destination->max_rate > CHANNEL_DECIMATE_MAX)
        return "a destination's max_rate";
    int rules = (destination->keep_every != 0) + (destination->max_rate != 0);
    if (rules != (kind == DESTINATION_DECIMATE))
        return "a destination's decimation rule";
    return NULL;
}

static const char *check_record(const struct record_spec *record)
{
    if (record->enabled > 1)
        return "record.enabled";
    if (!record->enabled)
        return NULL;
    if (record->on_full > RECORD_ON_FULL_WAIT)
        return "record.on_full";
    if (record->segment_size < CHANNEL_SEGMENT_SIZE_MIN ||
        record->segment_size > CHANNEL_SEGMENT_SIZE_MAX)
        return "record.segment_size";
    if (record->keep_free_ppm > 1000000)
        return "record.keep_free";
    if (record->gather_ns > CHANNEL_GATHER_MAX_NS)
        return "record.gather";
    if (record->sync_every > CHANNEL_SYNC_EVERY_MAX)
        return "record.sync_every";
    return NULL;
}

/* A channel that has a socket. */
static const char *check_socket(const struct channel_spec *spec)
{
    if (!is_address(&spec->listen))
        return "listen";
    if (spec->local[0])
        return "local";
    if (!is_optional_interface(spec->interface))
        return "interface";
    if (spec->source.family != AF_UNSPEC && spec->source.family != spec->listen.family)
        return "source";
    if (spec->receive_buffer == 0 || spec->receive_buffer > CHANNEL_RECEIVE_BUFFER_MAX)
        return "receive_buffer";
    if (spec->busy_poll_us > CHANNEL_BUSY_POLL_MAX_US)
        return "busy_poll";
    if (spec->receive_offload > 1)
        return "receive_offload";
    if (spec->publishers.most || spec->publishers.group || spec->publishers.outbox_size)
        return "publishers";
    return NULL;
}

/* A channel that has none: nothing is set that only a socket knows. */
static const char *check_local(const struct channel_spec *spec)
{
    const union socket_address listen = {.family = AF_UNIX};
    const struct publishers_spec *publishers = &spec->publishers;
    if (memcmp(&spec->listen, &listen, sizeof listen) != 0)
        return "listen";
    if (!channel_name_is_valid(spec->local))
        return "local";
    if (spec->interface[0])
        return "interface";
    if (spec->source.family != AF_UNSPEC)
        return "source";
    if (spec->receive_buffer)
        return "receive_buffer";
    if (spec->busy_poll_us)
        return "busy_poll";
    if (spec->receive_offload)
        return "receive_offload";
    if (spec->record.enabled && spec->record.on_full != RECORD_ON_FULL_WAIT)
        return "record.on_full";
    if (publishers->most == 0 || publishers->most > CHANNEL_PUBLISHERS_MAX)
        return "publishers.most";
    if (publishers->outbox_size < channel_spec_outbox_least(spec->max_datagram) ||
        publishers->outbox_size > CHANNEL_OUTBOX_SIZE_MAX)
        return "publishers.outbox_size";
    return NULL;
}

static const char *check_reception(const struct channel_spec *spec)
{
    if (spec->ring_size < CHANNEL_RING_SIZE_MIN || spec->ring_size > CHANNEL_RING_SIZE_MAX)
        return "ring_size";
    if (spec->batch_delay_us > CHANNEL_BATCH_DELAY_MAX_US)
        return "batch_delay";
    if (spec->max_datagram == 0 || spec->max_datagram > CHANNEL_DATAGRAM_MAX)
        return "max_datagram";
    if (spec->mapping > RING_MAPPING_MIRROR)
        return "mapping";
    if (spec->ring_pages > RING_PAGES_HUGE)
        return "ring_pages";
    if (spec->realtime_priority > 99)
        return "realtime_priority";
    return channel_spec_is_local(spec) ? check_local(spec) : check_socket(spec);
}

size_t channel_spec_print_listen(const struct channel_spec *spec, char *buffer, size_t size)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    if (!channel_spec_is_local(spec))
        return socket_address_print_at(&spec->listen, spec->interface, buffer, size);
    char *end = stpcpy(text, LOCAL_ADDRESS_PREFIX);
    size_t length = strnlen(spec->local, sizeof spec->local - 1);
    memcpy(end, spec->local, length);
    return copy_text(text, end + length, buffer, size);
}

int channel_spec_check(const struct channel_spec *spec, size_t size, const char **ret_what)
{
    const char *what = NULL;
    if (size < sizeof *spec || (spec->relay_count > CHANNEL_DESTINATIONS_MAX) ||
        spec->decimate_count > CHANNEL_DESTINATIONS_MAX - spec->relay_count ||
        size != channel_spec_size(channel_spec_destination_count(spec)))
        what = "size";
    else if (!channel_name_is_valid(spec->name))
        what = "name";
    if (!what)
        what = check_reception(spec);
    if (!what)
        what = check_record(&spec->record);
    uint32_t count = what ? 0 : channel_spec_destination_count(spec);
    for (uint32_t i = 0; i < count && !what; i++)
        what = check_destination(&spec->destinations[i],
                                 i < spec->relay_count ? DESTINATION_RELAY : DESTINATION_DECIMATE);
    *ret_what = what ? what : "";
    return what ? -EBADMSG : 0;
}
