/* SPDX-License-Identifier: MIT */
/* Datagrams as packets of a capture file. Called by export. The headers are made, not recorded:
 * lengths and checksums must be what they would have been, and nothing else may seem to be known.
 */
#include "supervisor/ctl/ctl_pcapng.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/client/holdfast.h"

#define BLOCK_SECTION      0x0a0d0d0au
#define BLOCK_INTERFACE    1u
#define BLOCK_PACKET       6u
#define BYTE_ORDER_MARK    0x1a2b3c4du

#define OPTION_END         0u
#define OPTION_APPLICATION 4u /* of the section */
#define OPTION_NAME        2u /* of an interface, as the next one */
#define OPTION_RESOLUTION  9u
#define OPTION_COMMENT     1u
#define OPTION_DROPPED     4u /* of a packet */

#define LINKTYPE_RAW       101u /* an IPv4 or IPv6 header comes first */
#define SNAPLEN            262144u
#define NANOSECONDS        9u
#define IPV4_SIZE          20u
#define IPV6_SIZE          40u
#define UDP_SIZE           8u
#define IP_LENGTH_MAX      65535u
#define HOPS               64u

/* ---- blocks ---- */

/* Blocks are put together in memory: their length stands before and behind them. */
struct block {
    uint8_t bytes[256]; /* without a payload */
    size_t size;
};

static void put(struct block *block, const void *bytes, size_t size)
{
    memcpy(block->bytes + block->size, bytes, size);
    block->size += size;
}

static void put_16(struct block *block, uint32_t value)
{
    const uint16_t little = htole16((uint16_t)value);
    put(block, &little, sizeof little);
}

static void put_32(struct block *block, uint32_t value)
{
    const uint32_t little = htole32(value);
    put(block, &little, sizeof little);
}

static void put_64(struct block *block, uint64_t value)
{
    const uint64_t little = htole64(value);
    put(block, &little, sizeof little);
}

static size_t padding_of(size_t size)
{
    return -size & 3;
}

static void put_option(struct block *block, uint32_t code, const void *value, size_t size)
{
    put_16(block, code);
    put_16(block, (uint32_t)size);
    put(block, value, size);
    memset(block->bytes + block->size, 0, padding_of(size));
    block->size += padding_of(size);
}

static void begin(struct block *block, uint32_t type)
{
    block->size = 0;
    put_32(block, type);
    put_32(block, 0); /* its length */
}

static void set_length(struct block *block, size_t length)
{
    const uint32_t little = htole32((uint32_t)length);
    memcpy(block->bytes + 4, &little, sizeof little);
}

static void end(FILE *to, struct block *block)
{
    const size_t length = block->size + 4;
    set_length(block, length);
    put_32(block, (uint32_t)length);
    fwrite(block->bytes, 1, block->size, to);
}

void ctl_pcapng_begin(FILE *to)
{
    static const char application[] = "holdfastctl " HOLDFAST_VERSION;
    struct block block;
    begin(&block, BLOCK_SECTION);
    put_32(&block, BYTE_ORDER_MARK);
    put_16(&block, 1); /* version 1.0 */
    put_16(&block, 0);
    put_64(&block, UINT64_MAX); /* the section's length is not told */
    put_option(&block, OPTION_APPLICATION, application, sizeof application - 1);
    put_option(&block, OPTION_END, "", 0);
    end(to, &block);
}

void ctl_pcapng_interface(FILE *to, const char *name)
{
    const uint8_t resolution = NANOSECONDS;
    struct block block;
    begin(&block, BLOCK_INTERFACE);
    put_16(&block, LINKTYPE_RAW);
    put_16(&block, 0);
    put_32(&block, SNAPLEN);
    put_option(&block, OPTION_NAME, name, strnlen(name, CHANNEL_NAME_SIZE));
    put_option(&block, OPTION_RESOLUTION, &resolution, sizeof resolution);
    put_option(&block, OPTION_END, "", 0);
    end(to, &block);
}

/* ---- headers ---- */

/* The Internet checksum (RFC 1071), before it is folded. Only the last part may be odd. */
static uint64_t add_words(uint64_t sum, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    for (; size > 1; size -= 2, at += 2)
        sum += (uint32_t)at[0] << 8 | at[1];
    return size ? sum + ((uint32_t)at[0] << 8) : sum;
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put_network_16(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
}

/* An end of the datagram, as its headers have it. */
struct endpoint {
    uint8_t address[16]; /* 4 of them, or all */
    uint16_t port;
};

/* An address of the other family is not known as far as these headers go; its port is. */
static void take_endpoint(const union socket_address *from, bool is_v6, struct endpoint *ret)
{
    memset(ret, 0, sizeof *ret);
    if (from->family == AF_INET) {
        ret->port = ntohs(from->v4.sin_port);
        if (!is_v6)
            memcpy(ret->address, &from->v4.sin_addr, 4);
    } else if (from->family == AF_INET6) {
        ret->port = ntohs(from->v6.sin6_port);
        if (is_v6)
            memcpy(ret->address, &from->v6.sin6_addr, 16);
    }
}

struct headers {
    uint8_t bytes[IPV6_SIZE + UDP_SIZE];
    size_t size;
    uint32_t whole; /* bytes of the packet, as it was sent */
};

static uint16_t udp_checksum(const struct headers *headers, size_t address_bytes,
                             const struct ctl_pcapng_packet *packet)
{
    const uint8_t *udp = headers->bytes + headers->size - UDP_SIZE;
    /* Both addresses end where the UDP header begins; then, in the pseudo header, length and
     * protocol. */
    uint64_t sum = add_words(0, udp - 2 * address_bytes, 2 * address_bytes);
    sum += IPPROTO_UDP + (headers->whole - (headers->size - UDP_SIZE));
    sum = add_words(sum, udp, UDP_SIZE);
    const uint16_t folded = fold(add_words(sum, packet->payload, packet->length));
    return folded ? folded : 0xffff; /* 0 means that there is none */
}

static void put_udp(struct headers *headers, const struct endpoint *from, const struct endpoint *to,
                    uint32_t udp_length)
{
    uint8_t *udp = headers->bytes + headers->size;
    put_network_16(udp, from->port);
    put_network_16(udp + 2, to->port);
    put_network_16(udp + 4, udp_length);
    put_network_16(udp + 6, 0);
    headers->size += UDP_SIZE;
}

static void make_v4(struct headers *headers, const struct endpoint *from, const struct endpoint *to,
                    uint32_t udp_length)
{
    uint8_t *ip = headers->bytes;
    memset(ip, 0, IPV4_SIZE);
    ip[0] = 0x45; /* version, and 5 words of header */
    put_network_16(ip + 2, IPV4_SIZE + udp_length);
    ip[8] = HOPS;
    ip[9] = IPPROTO_UDP;
    memcpy(ip + 12, from->address, 4);
    memcpy(ip + 16, to->address, 4);
    put_network_16(ip + 10, fold(add_words(0, ip, IPV4_SIZE)));
    headers->size = IPV4_SIZE;
    headers->whole = IPV4_SIZE + udp_length;
}

static void make_v6(struct headers *headers, const struct endpoint *from, const struct endpoint *to,
                    uint32_t udp_length)
{
    uint8_t *ip = headers->bytes;
    memset(ip, 0, IPV6_SIZE);
    ip[0] = 0x60; /* version */
    put_network_16(ip + 4, udp_length);
    ip[6] = IPPROTO_UDP;
    ip[7] = HOPS;
    memcpy(ip + 8, from->address, 16);
    memcpy(ip + 24, to->address, 16);
    headers->size = IPV6_SIZE;
    headers->whole = IPV6_SIZE + udp_length;
}

static void make_headers(const struct ctl_pcapng_packet *packet, struct headers *ret)
{
    union socket_address source = {0};
    struct endpoint from, to;
    memcpy(&source, packet->source, sizeof source);
    const bool is_v6 = source.family == AF_INET6 ||
                       (source.family != AF_INET && packet->destination->family == AF_INET6);
    take_endpoint(&source, is_v6, &from);
    take_endpoint(packet->destination, is_v6, &to);
    uint64_t udp_length = UDP_SIZE + (uint64_t)packet->length + packet->cut;
    const uint32_t most = IP_LENGTH_MAX - (is_v6 ? 0 : IPV4_SIZE);
    if (udp_length > most)
        udp_length = most;
    if (is_v6)
        make_v6(ret, &from, &to, (uint32_t)udp_length);
    else
        make_v4(ret, &from, &to, (uint32_t)udp_length);
    put_udp(ret, &from, &to, (uint32_t)udp_length);
    /* Of what was cut nobody knows the checksum: none, which IPv6 doesn't allow (RFC 8200, 8.1). */
    uint16_t checksum = is_v6 ? 0xffff : 0;
    if (!packet->cut)
        checksum = udp_checksum(ret, is_v6 ? 16 : 4, packet);
    put_network_16(ret->bytes + ret->size - 2, checksum);
}

void ctl_pcapng_packet(FILE *to, const struct ctl_pcapng_packet *packet)
{
    struct headers headers;
    struct block head, tail = {.size = 0};
    make_headers(packet, &headers);
    const size_t captured = headers.size + packet->length;
    const uint64_t time = packet->time_ns > 0 ? (uint64_t)packet->time_ns : 0;
    begin(&head, BLOCK_PACKET);
    put_32(&head, packet->interface);
    put_32(&head, (uint32_t)(time >> 32));
    put_32(&head, (uint32_t)time);
    put_32(&head, (uint32_t)captured);
    put_32(&head, headers.whole > captured ? headers.whole : (uint32_t)captured);
    put(&head, headers.bytes, headers.size);
    put(&tail, "\0\0\0", padding_of(captured));
    if (packet->source->ss_family == AF_UNIX) { /* no header can say who published it */
        char source[HF_ADDRESS_SIZE];
        hf_format_source(packet->source, source);
        put_option(&tail, OPTION_COMMENT, source, strlen(source));
    }
    if (packet->dropped) {
        const uint64_t little = htole64(packet->dropped);
        put_option(&tail, OPTION_DROPPED, &little, sizeof little);
    }
    if (tail.size > padding_of(captured))
        put_option(&tail, OPTION_END, "", 0);
    const size_t length = head.size + packet->length + tail.size + 4;
    set_length(&head, length);
    put_32(&tail, (uint32_t)length);
    fwrite(head.bytes, 1, head.size, to);
    fwrite(packet->payload, 1, packet->length, to);
    fwrite(tail.bytes, 1, tail.size, to);
}

/* ---- reading it again ---- */

static uint32_t get_32(const uint8_t *from)
{
    uint32_t little;
    memcpy(&little, from, sizeof little);
    return le32toh(little);
}

/* One block, its type and its length left out. 1, 0 at the end, or -errno. */
static int read_block(FILE *from, uint8_t *bytes, uint32_t *ret_type, size_t *ret_size)
{
    uint8_t head[8], tail[4];
    size_t got = fread(head, 1, sizeof head, from);
    if (got == 0 && !ferror(from))
        return 0;
    const uint32_t length = got == sizeof head ? get_32(head + 4) : 0;
    if (ferror(from))
        return errno ? -errno : -EIO;
    if (length < 12 || length % 4 || length - 12 > SNAPLEN + 256)
        return -EBADMSG;
    *ret_type = get_32(head);
    *ret_size = length - 12;
    if (fread(bytes, 1, *ret_size, from) != *ret_size ||
        fread(tail, 1, sizeof tail, from) != sizeof tail)
        return ferror(from) ? -EIO : -EBADMSG;
    return get_32(tail) == length ? 1 : -EBADMSG;
}

static int take_block(const uint8_t *bytes, uint32_t type, size_t size,
                      struct ctl_pcapng_contents *contents)
{
    if (type == BLOCK_INTERFACE) {
        contents->interfaces++;
        return 0;
    }
    if (type != BLOCK_PACKET)
        return type == BLOCK_SECTION ? 0 : -EBADMSG;
    if (size < 20 || get_32(bytes) >= contents->interfaces || get_32(bytes + 12) > size - 20)
        return -EBADMSG;
    contents->packets++;
    contents->last_time_ns = (int64_t)((uint64_t)get_32(bytes + 4) << 32 | get_32(bytes + 8));
    return 0;
}

int ctl_pcapng_read(FILE *from, struct ctl_pcapng_contents *ret)
{
    uint8_t *bytes = malloc(SNAPLEN + 256);
    uint32_t type = 0;
    size_t size = 0;
    bool is_first = true;
    *ret = (struct ctl_pcapng_contents){0};
    int result = bytes ? 1 : -ENOMEM;
    while (result > 0 && (result = read_block(from, bytes, &type, &size)) > 0) {
        int taken =
            is_first != (type == BLOCK_SECTION) ? -EBADMSG : take_block(bytes, type, size, ret);
        is_first = false;
        result = taken < 0 ? taken : 1;
    }
    free(bytes);
    return result;
}
