/* SPDX-License-Identifier: MIT */
/* Avro's numbers (zigzag, base 128, lowest seven bits first), and a walk over bytes that nobody has
 * vouched for. For those who encode and decode the log: avro_log_format.c, avro_log_header.c. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_VARINT_H
#define HOLDFAST_COMMON_AVRO_LOG_VARINT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t varint_zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

/* Returns where the next byte goes. */
static inline uint8_t *varint_put(uint8_t *to, int64_t number)
{
    uint64_t value = varint_zigzag(number);
    while (value > 0x7f) {
        *to++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

/* Its length, or -EBADMSG. Longer forms than the shortest are taken, too. */
static inline long varint_read(const uint8_t *from, size_t size, int64_t *ret)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size && i < 10; i++) {
        value |= (uint64_t)(from[i] & 0x7f) << (7 * i);
        if (!(from[i] & 0x80)) {
            if (i == 9 && from[i] > 1)
                return -EBADMSG; /* more than 64 bits */
            *ret = (int64_t)(value >> 1 ^ (~(value & 1) + 1));
            return (long)i + 1;
        }
    }
    return -EBADMSG;
}

/* The same as walk_long() below for what is shorter than 9 bytes, of which 8 must be there to be
 * looked at: all of them at once. Returns its length, or 0: it is to be read the other way. */
static inline size_t varint_read_quick(const uint8_t *from, int64_t *ret)
{
    uint64_t word;
    if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
        return 0;
    memcpy(&word, from, sizeof word);
    uint64_t ends = ~word & 0x8080808080808080u;
    if (ends == 0)
        return 0;
    size_t length = (size_t)__builtin_ctzll(ends) / 8 + 1;
    if (length > 1 && from[length - 1] == 0)
        return 0;              /* not its shortest form */
    word &= ends ^ (ends - 1); /* up to the first end */
    word = (word & 0x007f007f007f007f) | (word & 0x7f007f007f007f00) >> 1;
    word = (word & 0x00003fff00003fff) | (word & 0x3fff00003fff0000) >> 2;
    word = (word & 0x000000000fffffff) | (word & 0x0fffffff00000000) >> 4;
    *ret = (int64_t)(word >> 1 ^ (~(word & 1) + 1));
    return length;
}

/* A bounds-checked walk over bytes; once `failed` is set every further step does nothing. */
struct walk {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

/* In its shortest form only: nobody writes another one here, and a longer one makes a record longer
 * than any record can be. (Counts and sizes of blocks are padded, and read elsewhere.) */
static inline int64_t walk_long(struct walk *walk)
{
    int64_t value = 0;
    long length = walk->failed ? -1 : varint_read(walk->at, (size_t)(walk->end - walk->at), &value);
    if (length < 0 || (length > 1 && walk->at[length - 1] == 0)) {
        walk->failed = true;
        return 0;
    }
    walk->at += length;
    return value;
}

static inline const uint8_t *walk_take(struct walk *walk, int64_t size)
{
    if (walk->failed || size < 0 || size > walk->end - walk->at) {
        walk->failed = true;
        return NULL;
    }
    const uint8_t *taken = walk->at;
    walk->at += size;
    return taken;
}

#endif
