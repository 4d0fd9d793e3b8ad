/* SPDX-License-Identifier: MIT */
/* Encodes and decodes the log's container: header, block headers, records. Used by the recorder on
 * its hot path, by the archive, by holdfastctl and by tests. Must never read a byte whose presence
 * it has not checked. */
#include "common/avro_log_format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <isa-l/crc.h>

const char avro_log_schema[] =
    "{\"type\":\"record\",\"name\":\"Datagram\",\"namespace\":\"holdfast\",\"fields\":["
    "{\"name\":\"seq\",\"type\":\"long\"},"
    "{\"name\":\"received_at\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}},"
    "{\"name\":\"received_ns\",\"type\":\"int\"},"
    "{\"name\":\"source\",\"type\":\"string\"},"
    "{\"name\":\"lost_before\",\"type\":\"int\"},"
    "{\"name\":\"cut\",\"type\":\"int\"},"
    "{\"name\":\"flags\",\"type\":\"int\"},"
    "{\"name\":\"payload\",\"type\":\"bytes\"},"
    "{\"name\":\"crc32c\",\"type\":{\"type\":\"fixed\",\"name\":\"Crc32c\",\"size\":4}}]}";

/* ---- varints ---- */

static inline uint64_t zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

static inline uint8_t *put_varint(uint8_t *to, uint64_t value)
{
    while (value > 0x7f) {
        *to++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

static inline uint8_t *put_long(uint8_t *to, int64_t value)
{
    return put_varint(to, zigzag(value));
}

size_t avro_log_write_long(uint8_t *to, int64_t value)
{
    return (size_t)(put_long(to, value) - to);
}

long avro_log_read_long(const uint8_t *from, size_t size, int64_t *ret)
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

static size_t varint_size(uint64_t value)
{
    size_t size = 1;
    while (value > 0x7f) {
        value >>= 7;
        size++;
    }
    return size;
}

static void put_padded(uint8_t to[AVRO_LOG_PADDED_SIZE], uint64_t value)
{
    value = zigzag((int64_t)value);
    for (int i = 0; i < AVRO_LOG_PADDED_SIZE - 1; i++, value >>= 7)
        to[i] = (uint8_t)(value | 0x80);
    to[AVRO_LOG_PADDED_SIZE - 1] = (uint8_t)(value & 0x7f);
}

void avro_log_write_block_header(uint8_t to[AVRO_LOG_BLOCK_HEADER_SIZE], uint64_t count,
                                 uint64_t size)
{
    put_padded(to, count);
    put_padded(to + AVRO_LOG_PADDED_SIZE, size);
}

/* isa-l 2.30 returns from its AVX-512 kernel with the vector registers' upper halves in use, and
 * every SSE instruction from there on pays for it: about 200 ns per record. */
static inline void leave_avx(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroupper" ::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                               "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                               "xmm15");
#endif
}

/* isa-l folds long runs with vectors, which takes 30 ns to begin and to end; the processor's own
 * CRC32C instruction has done a short record by then (measured: 88 bytes 11 ns, even at about 300
 * bytes). */
#define CRC_SHORT 256

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_short(const uint8_t *from, size_t size)
{
    uint64_t crc = 0xffffffffu, word;
    for (; size >= sizeof word; size -= sizeof word, from += sizeof word) {
        memcpy(&word, from, sizeof word);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    uint32_t rest = (uint32_t)crc;
    for (; size > 0; size--)
        rest = __builtin_ia32_crc32qi(rest, *from++);
    return ~rest;
}

static bool has_crc_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#else
static uint32_t crc_short(const uint8_t *from, size_t size)
{
    (void)from;
    (void)size;
    return 0;
}

static bool has_crc_instruction(void)
{
    return false; /* isa-l knows this processor's */
}
#endif

uint32_t avro_log_crc32c(const uint8_t *from, size_t size)
{
    if (size < CRC_SHORT && has_crc_instruction())
        return crc_short(from, size);
    /* isa-l takes a non-const pointer and an int; a record is far below INT_MAX. It leaves both
     * inversions to us. */
    uint32_t crc = ~crc32_iscsi((unsigned char *)from, (int)size, 0xffffffffu);
    leave_avx();
    return crc;
}

/* ---- file header ---- */

static uint8_t *put_bytes(uint8_t *to, const void *bytes, size_t size)
{
    to = put_long(to, (int64_t)size);
    memcpy(to, bytes, size);
    return to + size;
}

static uint8_t *put_entry(uint8_t *to, const char *key, const char *value)
{
    to = put_bytes(to, key, strlen(key));
    return put_bytes(to, value, strlen(value));
}

#define HEADER_ENTRIES 6
#define NUMBER_FORMAT  "%020llu"

size_t avro_log_write_header(uint8_t *to, const struct avro_log_identity *identity)
{
    char number[24];
    uint8_t *at = to;
    memcpy(at, "Obj\1", 4);
    at = put_long(at + 4, HEADER_ENTRIES);
    at = put_entry(at, "avro.schema", avro_log_schema);
    at = put_entry(at, "avro.codec", "null");
    at = put_entry(at, "holdfast.channel", identity->channel);
    snprintf(number, sizeof number, NUMBER_FORMAT, (unsigned long long)identity->first_seq);
    at = put_entry(at, "holdfast.first_seq", number);
    snprintf(number, sizeof number, NUMBER_FORMAT, (unsigned long long)identity->created_ns);
    at = put_entry(at, "holdfast.created", number);
    at = put_entry(at, "holdfast.version", AVRO_LOG_VERSION);
    at = put_long(at, 0);
    memcpy(at, identity->sync, AVRO_LOG_SYNC_SIZE);
    return (size_t)(at - to) + AVRO_LOG_SYNC_SIZE;
}

size_t avro_log_header_size(const char *channel)
{
    struct avro_log_identity identity = {0};
    uint8_t scratch[AVRO_LOG_HEADER_MAX];
    snprintf(identity.channel, sizeof identity.channel, "%s", channel);
    return avro_log_write_header(scratch, &identity);
}

/* A bounds-checked walk over bytes; once `failed` is set every further step does nothing. */
struct walk {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

/* In its shortest form only: nobody writes another one here, and a longer one makes a record longer
 * than any record can be. (Counts and sizes of blocks are padded, and read elsewhere.) */
static int64_t walk_long(struct walk *walk)
{
    int64_t value = 0;
    long length =
        walk->failed ? -1 : avro_log_read_long(walk->at, (size_t)(walk->end - walk->at), &value);
    if (length < 0 || (length > 1 && walk->at[length - 1] == 0)) {
        walk->failed = true;
        return 0;
    }
    walk->at += length;
    return value;
}

static const uint8_t *walk_take(struct walk *walk, int64_t size)
{
    if (walk->failed || size < 0 || size > walk->end - walk->at) {
        walk->failed = true;
        return NULL;
    }
    const uint8_t *taken = walk->at;
    walk->at += size;
    return taken;
}

/* A length and that many bytes, as string; false when it doesn't end or doesn't fit. */
static bool walk_text(struct walk *walk, char *text, size_t size)
{
    int64_t length = walk_long(walk);
    const uint8_t *bytes = walk_take(walk, length);
    if (!bytes || (uint64_t)length >= size)
        return false;
    memcpy(text, bytes, (size_t)length);
    text[length] = '\0';
    return true;
}

static bool parse_number(const char *text, uint64_t *ret)
{
    if (!*text || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    *ret = strtoull(text, NULL, 10);
    return errno == 0;
}

static const char *take_entry(const char *key, const char *value, struct avro_log_identity *ret,
                              unsigned *seen)
{
    if (strcmp(key, "avro.schema") == 0) {
        *seen |= 1;
        return strcmp(value, avro_log_schema) == 0 ? NULL
                                                   : "the schema is not the one of this version";
    }
    if (strcmp(key, "avro.codec") == 0)
        return strcmp(value, "null") == 0 ? NULL : "the codec is not null";
    if (strcmp(key, "holdfast.channel") == 0) {
        if (!*value || strlen(value) >= sizeof ret->channel)
            return "the channel name is too long";
        *seen |= 2;
        strcpy(ret->channel, value);
    } else if (strcmp(key, "holdfast.first_seq") == 0) {
        *seen |= 4;
        return parse_number(value, &ret->first_seq) ? NULL : "holdfast.first_seq is not a number";
    } else if (strcmp(key, "holdfast.created") == 0) {
        *seen |= 8;
        return parse_number(value, &ret->created_ns) ? NULL : "holdfast.created is not a number";
    } else if (strcmp(key, "holdfast.version") == 0) {
        *seen |= 16;
        return strcmp(value, AVRO_LOG_VERSION) == 0 ? NULL : "another version of the log format";
    }
    return NULL; /* a key of somebody else is none of our business */
}

long avro_log_read_header(const uint8_t *from, size_t size, struct avro_log_identity *ret,
                          const char **ret_what)
{
    struct walk walk = {from, from + size, false};
    char key[64], value[AVRO_LOG_HEADER_MAX];
    unsigned seen = 0;

    memset(ret, 0, sizeof *ret);
    *ret_what = "not an Avro file (magic)";
    const uint8_t *magic = walk_take(&walk, 4);
    if (!magic || memcmp(magic, "Obj\1", 4) != 0)
        return -EBADMSG;
    *ret_what = "the header's metadata is damaged";
    for (;;) {
        int64_t entries = walk_long(&walk);
        if (walk.failed || entries < 0 || entries > 64)
            return -EBADMSG;
        if (entries == 0)
            break;
        for (; entries > 0; entries--) {
            if (!walk_text(&walk, key, sizeof key) || !walk_text(&walk, value, sizeof value))
                return -EBADMSG;
            const char *what = take_entry(key, value, ret, &seen);
            if (what) {
                *ret_what = what;
                return -EBADMSG;
            }
        }
    }
    const uint8_t *sync = walk_take(&walk, AVRO_LOG_SYNC_SIZE);
    if (!sync)
        return -EBADMSG;
    if (seen != 31) {
        *ret_what = "an Avro file, but not written by holdfast (metadata missing)";
        return -EBADMSG;
    }
    memcpy(ret->sync, sync, AVRO_LOG_SYNC_SIZE);
    *ret_what = "";
    return (long)(walk.at - from);
}

long avro_log_load_header(int fd, struct avro_log_identity *ret, const char **ret_what)
{
    uint8_t bytes[AVRO_LOG_HEADER_MAX];
    ssize_t length;
    do
        length = pread(fd, bytes, sizeof bytes, 0);
    while (length < 0 && errno == EINTR);
    if (length >= 0)
        return avro_log_read_header(bytes, (size_t)length, ret, ret_what);
    *ret_what = "the file can't be read";
    return errno == EBADMSG ? -EIO : -errno; /* a file system's own checksum was wrong */
}

/* ---- records ---- */

size_t avro_log_record_size(const struct avro_log_record *record)
{
    return varint_size(zigzag(record->seq)) + varint_size(zigzag(record->received_at_us)) +
           varint_size(zigzag(record->received_ns)) +
           varint_size(zigzag((int64_t)record->source_length)) + record->source_length +
           varint_size(zigzag(record->lost_before)) + varint_size(zigzag(record->cut)) +
           varint_size(zigzag(record->flags)) +
           varint_size(zigzag((int64_t)record->payload_length)) + record->payload_length +
           AVRO_LOG_CRC_SIZE;
}

uint8_t *avro_log_write_record_head(uint8_t *to, const struct avro_log_record *record)
{
    to = put_long(to, record->seq);
    to = put_long(to, record->received_at_us);
    to = put_long(to, record->received_ns);
    to = put_long(to, (int64_t)record->source_length);
    memcpy(to, record->source, record->source_length);
    to += record->source_length;
    to = put_long(to, record->lost_before);
    to = put_long(to, record->cut);
    to = put_long(to, record->flags);
    return put_long(to, (int64_t)record->payload_length);
}

uint8_t *avro_log_write_record_crc(uint8_t *start, uint8_t *end)
{
    uint32_t crc = avro_log_crc32c(start, (size_t)(end - start));
    for (int i = 0; i < AVRO_LOG_CRC_SIZE; i++, crc >>= 8)
        *end++ = (uint8_t)crc;
    return end;
}

static int32_t walk_int(struct walk *walk)
{
    int64_t value = walk_long(walk);
    if (value < INT32_MIN || value > INT32_MAX)
        walk->failed = true;
    return (int32_t)value;
}

long avro_log_read_record(const uint8_t *from, size_t size, struct avro_log_record *ret,
                          const char **ret_what)
{
    struct walk walk = {from, from + size, false};
    *ret_what = "the record does not end inside its block";
    ret->seq = walk_long(&walk);
    ret->received_at_us = walk_long(&walk);
    ret->received_ns = walk_int(&walk);
    int64_t source_length = walk_long(&walk);
    if (!walk.failed && (source_length < 0 || source_length >= SOCKET_ADDRESS_TEXT_SIZE)) {
        *ret_what = "the record's source has an implausible length";
        return -EBADMSG;
    }
    ret->source = (const char *)walk_take(&walk, source_length);
    ret->source_length = (size_t)source_length;
    ret->lost_before = walk_int(&walk);
    ret->cut = walk_int(&walk);
    ret->flags = walk_int(&walk);
    int64_t payload_length = walk_long(&walk);
    if (!walk.failed && (payload_length < 0 || payload_length > CHANNEL_DATAGRAM_MAX)) {
        *ret_what = "the record's payload has an implausible length";
        return -EBADMSG;
    }
    ret->payload = walk_take(&walk, payload_length);
    ret->payload_length = (size_t)payload_length;
    const uint8_t *crc_at = walk_take(&walk, AVRO_LOG_CRC_SIZE);
    if (walk.failed)
        return -EBADMSG;
    ret->crc32c = (uint32_t)crc_at[0] | (uint32_t)crc_at[1] << 8 | (uint32_t)crc_at[2] << 16 |
                  (uint32_t)crc_at[3] << 24;
    if (ret->seq < 0 || ret->received_ns < 0 || ret->received_ns > 999) {
        *ret_what = "the record's numbers are implausible";
        return -EBADMSG;
    }
    if (avro_log_crc32c(from, (size_t)(crc_at - from)) != ret->crc32c) {
        *ret_what = "the record's CRC is wrong";
        return -EBADMSG;
    }
    *ret_what = "";
    return (long)(walk.at - from);
}
