/* SPDX-License-Identifier: MIT */
/* The record that sender and sink keep of every datagram, and the payloads that the sender makes.
 * Used by the test tools only. A payload must follow from its id and size alone, so that a damaged
 * one can't look right. */
#include "tests/lib/datagram_file.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

void datagram_file_append(FILE *file, uint32_t socket_index, uint64_t time_ns, const void *payload,
                          size_t length)
{
    struct {
        uint32_t length;
        uint32_t socket_index;
        uint64_t time_ns;
    } head = {htole32((uint32_t)length), htole32(socket_index), htole64(time_ns)};
    if (fwrite(&head, sizeof head, 1, file) != 1 ||
        (length > 0 && fwrite(payload, length, 1, file) != 1)) {
        perror("cannot write the record of datagrams");
        exit(1);
    }
}

/* splitmix64: every bit of the result depends on every bit of the state. */
static uint64_t mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

void datagram_fill(uint8_t *payload, size_t size, uint64_t id)
{
    uint64_t word = htole64(id);
    for (size_t at = 0; at < size; at += sizeof word) {
        size_t part = size - at < sizeof word ? size - at : sizeof word;
        memcpy(payload + at, &word, part);
        word = mix(id + at + 1);
    }
}
