/* SPDX-License-Identifier: MIT */
/* A publisher's address as text, and packed into a ring's descriptor. Called wherever a datagram's
 * source is made, stored or shown. A name comes from a program that nobody vouches for, or from
 * shared memory: it must never reach a log or a terminal with other bytes than a name may hold. */
#include "common/local_address.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool is_name_byte(char byte)
{
    return byte > ' ' && byte <= '~' && byte != '/';
}

void local_address_make(uint32_t uid, uint32_t pid, const char *name, struct local_address *ret)
{
    char own[LOCAL_ADDRESS_NAME_SIZE] = "_";
    size_t length = strnlen(name, sizeof own - 1);
    for (size_t i = 0; i < length; i++)
        own[i] = is_name_byte(name[i]) ? name[i] : '_';
    *ret = (struct local_address){.family = AF_UNIX, .uid = uid, .pid = pid};
    memcpy(ret->name, own, sizeof own);
}

size_t local_address_print(const struct local_address *address, char *buffer, size_t size)
{
    char name[LOCAL_ADDRESS_NAME_SIZE];
    struct local_address sound;
    memcpy(name, address->name, sizeof name);
    name[sizeof name - 1] = '\0';
    local_address_make(address->uid, address->pid, name, &sound);
    int length =
        snprintf(buffer, size, LOCAL_ADDRESS_PREFIX "%u/%u/%s", sound.uid, sound.pid, sound.name);
    if ((size_t)length < size)
        return (size_t)length;
    return size > 0 ? size - 1 : 0;
}

/* As it is printed: no sign, no leading zero. Returns what follows, NULL when it is no number. */
static const char *parse_id(const char *text, uint32_t *ret)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
        if (value > UINT32_MAX)
            return NULL;
    }
    if (at == text || (*text == '0' && at != text + 1))
        return NULL;
    *ret = (uint32_t)value;
    return at;
}

int local_address_parse(const char *text, struct local_address *ret)
{
    uint32_t uid, pid;
    const size_t prefix = sizeof LOCAL_ADDRESS_PREFIX - 1;
    if (strncmp(text, LOCAL_ADDRESS_PREFIX, prefix) != 0)
        return -EINVAL;
    const char *at = parse_id(text + prefix, &uid);
    if (!at || *at != '/')
        return -EINVAL;
    at = parse_id(at + 1, &pid);
    if (!at || *at != '/')
        return -EINVAL;
    const char *name = at + 1;
    size_t length = strnlen(name, LOCAL_ADDRESS_NAME_SIZE);
    if (length == 0 || length == LOCAL_ADDRESS_NAME_SIZE)
        return -EINVAL;
    for (size_t i = 0; i < length; i++)
        if (!is_name_byte(name[i]))
            return -EINVAL;
    local_address_make(uid, pid, name, ret);
    return 0;
}

bool local_address_equal(const struct local_address *a, const struct local_address *b)
{
    return a->uid == b->uid && a->pid == b->pid &&
           strncmp(a->name, b->name, LOCAL_ADDRESS_NAME_SIZE) == 0;
}

/* Bytes of a name in the second word; the others are in the rest, the first of them lowest. */
#define WORD sizeof(uint64_t)

void local_address_pack(const struct local_address *address, uint64_t ret_words[2],
                        uint64_t *ret_rest)
{
    unsigned char name[LOCAL_ADDRESS_NAME_SIZE] = "";
    memcpy(name, address->name, strnlen(address->name, LOCAL_ADDRESS_PACKED_NAME));
    ret_words[0] = (uint64_t)address->uid << 32 | address->pid;
    memcpy(&ret_words[1], name, WORD);
    uint64_t rest = 0;
    for (unsigned i = WORD; i < LOCAL_ADDRESS_PACKED_NAME; i++)
        rest |= (uint64_t)name[i] << 8 * (i - WORD);
    *ret_rest = rest;
}

void local_address_unpack(const uint64_t words[2], uint64_t rest, struct local_address *ret)
{
    char name[LOCAL_ADDRESS_NAME_SIZE] = "";
    memcpy(name, &words[1], WORD);
    for (unsigned i = WORD; i < LOCAL_ADDRESS_PACKED_NAME; i++)
        name[i] = (char)(rest >> 8 * (i - WORD));
    local_address_make((uint32_t)(words[0] >> 32), (uint32_t)words[0], name, ret);
}
