/* SPDX-License-Identifier: MIT */
/* Turns records into datagrams. Called for each one that is read, so the usual case is short. The
 * text comes from a file: whatever it is, it is an address or none. */
#include "common/client/record.h"

#include <errno.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "common/channel_spec.h"

_Static_assert(RECORD_ADDRESS_SIZE >= sizeof(union socket_address) &&
                   RECORD_ADDRESS_SIZE <= sizeof(struct sockaddr_un),
               "every source has room");

/* A scope that this machine has no interface for is left out: the file may be another machine's. */
static int parse_here(const char *text, union socket_address *ret)
{
    char scope[IF_NAMESIZE];
    int result = socket_address_parse(text, ret);
    return result == -ENODEV ? socket_address_parse_scoped(text, ret, scope) : result;
}

/* "HOST:0": a sender may have no port, a destination may not. */
static int parse_without_port(char *text, size_t length, union socket_address *ret)
{
    if (length < 2 || text[length - 2] != ':' || text[length - 1] != '0')
        return -EINVAL;
    text[length - 1] = '1';
    int result = parse_here(text, ret);
    if (ret->family == AF_INET)
        ret->v4.sin_port = 0;
    else
        ret->v6.sin6_port = 0;
    return result;
}

static void parse(const struct avro_log_record *record, union socket_address *ret)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    *ret = (union socket_address){.family = AF_UNSPEC};
    if (record->source_length >= sizeof text)
        return;
    memcpy(text, record->source, record->source_length);
    text[record->source_length] = '\0';
    if (strlen(text) != record->source_length ||
        (parse_here(text, ret) < 0 && socket_address_parse_local(text, ret) < 0 &&
         parse_without_port(text, record->source_length, ret) < 0))
        *ret = (union socket_address){.family = AF_UNSPEC};
}

void record_set_source(const union socket_address *address, struct sockaddr_storage *ret)
{
    struct sockaddr_un *local = (struct sockaddr_un *)ret;
    memset(ret, 0, sizeof *ret);
    if (address->family != AF_UNIX) {
        memcpy(ret, address, sizeof *address);
        return;
    }
    local->sun_family = AF_UNIX;
    socket_address_print(address, local->sun_path, LOCAL_ADDRESS_TEXT_SIZE);
}

/* Not inlined: the usual case goes without its buffers. */
static __attribute__((noinline)) void learn(struct record_source *source,
                                            const struct avro_log_record *record)
{
    union socket_address address;
    struct sockaddr_storage whole;
    parse(record, &address);
    record_set_source(&address, &whole);
    memcpy(source->address, &whole, sizeof source->address);
    source->length = record->source_length < sizeof source->text ? record->source_length : 0;
    memcpy(source->text, record->source, source->length);
}

/* Most texts are 8 to 24 bytes: three words, which may overlap. */
static inline bool is_same(const char *a, const char *b, size_t length)
{
    uint64_t left[3], right[3];
    if (length < 8 || length > 24)
        return memcmp(a, b, length) == 0;
    const size_t middle = length < 16 ? 0 : 8, last = length - 8;
    memcpy(&left[0], a, 8);
    memcpy(&right[0], b, 8);
    memcpy(&left[1], a + middle, 8);
    memcpy(&right[1], b + middle, 8);
    memcpy(&left[2], a + last, 8);
    memcpy(&right[2], b + last, 8);
    return ((left[0] ^ right[0]) | (left[1] ^ right[1]) | (left[2] ^ right[2])) == 0;
}

void record_to_datagram(const struct avro_log_record *record, struct record_source *source,
                        struct hf_datagram *ret)
{
    if (record->source_length != source->length ||
        !is_same(record->source, source->text, source->length))
        learn(source, record);
    ret->seq = (uint64_t)record->seq;
    ret->time_ns = (int64_t)avro_log_record_time_ns(record);
    ret->data = record->payload;
    ret->length = (uint32_t)record->payload_length;
    ret->cut = record->cut > 0 ? (uint32_t)record->cut : 0;
    ret->lost_before = record->lost_before > 0 ? (uint32_t)record->lost_before : 0;
    ret->flags = (record->flags & AVRO_LOG_QUARANTINED ? HF_FLAG_QUARANTINED : 0) |
                 (record->flags & AVRO_LOG_NOT_COVERED ? HF_FLAG_UNCOVERED : 0);
    ret->lost = 0;
    ret->why = 0;
    memcpy(&ret->source, source->address, sizeof source->address);
}
