/* SPDX-License-Identifier: MIT */
/* Encodes and decodes the log's blocks and records. Used by the recorder on its hot path, by the
 * archive, by holdfastctl and by tests. Must never read a byte whose presence it has not checked.
 */
#include "common/avro_log_format.h"

#include <errno.h>
#include <string.h>

#include <isa-l/crc.h>

#include "common/avro_log_varint.h"

/* ---- varints ---- */

size_t avro_log_write_long(uint8_t *to, int64_t value)
{
    return (size_t)(varint_put(to, value) - to);
}

long avro_log_read_long(const uint8_t *from, size_t size, int64_t *ret)
{
    return varint_read(from, size, ret);
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
    value = varint_zigzag((int64_t)value);
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

bool avro_log_read_block_header(const uint8_t *bytes, size_t size, uint64_t *ret_count,
                                uint64_t *ret_size)
{
    int64_t values[2];
    if (size < AVRO_LOG_BLOCK_HEADER_SIZE)
        return false;
    for (int i = 0; i < 2; i++, bytes += AVRO_LOG_PADDED_SIZE)
        if (avro_log_read_long(bytes, AVRO_LOG_PADDED_SIZE, &values[i]) != AVRO_LOG_PADDED_SIZE ||
            values[i] < 0)
            return false;
    *ret_count = (uint64_t)values[0];
    *ret_size = (uint64_t)values[1];
    return true;
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
    uint64_t crc = 0xffffffffu, word, second;
    for (; size >= 2 * sizeof word; size -= 2 * sizeof word, from += 2 * sizeof word) {
        memcpy(&word, from, sizeof word);
        memcpy(&second, from + sizeof word, sizeof second);
        crc = __builtin_ia32_crc32di(__builtin_ia32_crc32di(crc, word), second);
    }
    for (; size >= sizeof word; size -= sizeof word, from += sizeof word) {
        memcpy(&word, from, sizeof word);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    uint32_t rest = (uint32_t)crc;
    if (size & 4) {
        uint32_t part;
        memcpy(&part, from, sizeof part);
        rest = __builtin_ia32_crc32si(rest, part);
        from += sizeof part;
    }
    if (size & 2) {
        uint16_t part;
        memcpy(&part, from, sizeof part);
        rest = __builtin_ia32_crc32hi(rest, part);
        from += sizeof part;
    }
    if (size & 1)
        rest = __builtin_ia32_crc32qi(rest, *from);
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

static inline uint32_t crc32c(const uint8_t *from, size_t size)
{
    if (size < CRC_SHORT && has_crc_instruction())
        return crc_short(from, size);
    /* isa-l takes a non-const pointer and an int; a record is far below INT_MAX. It leaves both
     * inversions to us. */
    uint32_t crc = ~crc32_iscsi((unsigned char *)from, (int)size, 0xffffffffu);
    leave_avx();
    return crc;
}

uint32_t avro_log_crc32c(const uint8_t *from, size_t size)
{
    return crc32c(from, size);
}

/* ---- records ---- */

size_t avro_log_record_size(const struct avro_log_record *record)
{
    return varint_size(varint_zigzag(record->seq)) +
           varint_size(varint_zigzag(record->received_at_us)) +
           varint_size(varint_zigzag(record->received_ns)) +
           varint_size(varint_zigzag((int64_t)record->source_length)) + record->source_length +
           varint_size(varint_zigzag(record->lost_before)) +
           varint_size(varint_zigzag(record->cut)) + varint_size(varint_zigzag(record->flags)) +
           varint_size(varint_zigzag((int64_t)record->payload_length)) + record->payload_length +
           AVRO_LOG_CRC_SIZE;
}

uint8_t *avro_log_write_record_head(uint8_t *to, const struct avro_log_record *record)
{
    to = varint_put(to, record->seq);
    to = varint_put(to, record->received_at_us);
    to = varint_put(to, record->received_ns);
    to = varint_put(to, (int64_t)record->source_length);
    memcpy(to, record->source, record->source_length);
    to += record->source_length;
    to = varint_put(to, record->lost_before);
    to = varint_put(to, record->cut);
    to = varint_put(to, record->flags);
    return varint_put(to, (int64_t)record->payload_length);
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

static uint32_t read_crc(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* A number of at most four bytes; 0: it is longer, or not in its shortest form. Each length is a
 * branch: a record's numbers are as long as the last one's, so that the processor guesses them and
 * goes on to what follows. A length that is computed, however quickly, is waited for. */
static inline size_t read_quick(const uint8_t *at, int64_t *ret)
{
    uint32_t value = at[0];
    size_t length = 1;
    if (value & 0x80) { /* which is in `value` and does not belong there */
        value += ((uint32_t)at[1] << 7) - 0x80;
        length = 2;
        if (at[1] & 0x80) {
            value += ((uint32_t)at[2] << 14) - (0x80 << 7);
            length = 3;
            if (at[2] & 0x80) {
                value += ((uint32_t)at[3] << 21) - (0x80 << 14);
                length = 4;
            }
        }
        if (at[length - 1] == 0 || at[length - 1] & 0x80)
            return 0;
    }
    *ret = (int32_t)(value >> 1 ^ (~(value & 1) + 1));
    return length;
}

static inline size_t read_int_quick(const uint8_t *at, int32_t *ret)
{
    int64_t value = 0;
    size_t length = read_quick(at, &value);
    *ret = (int32_t)value;
    return length;
}

/* lost_before, cut and flags: as a rule all three are 0. Their length, or 0 likewise. */
static inline size_t read_rare_quick(const uint8_t *at, struct avro_log_record *ret)
{
    if ((at[0] | at[1] | at[2]) == 0) {
        ret->lost_before = ret->cut = ret->flags = 0;
        return 3;
    }
    const size_t lost_before = read_int_quick(at, &ret->lost_before);
    const size_t cut = read_int_quick(at + lost_before, &ret->cut);
    const size_t flags = read_int_quick(at + lost_before + cut, &ret->flags);
    return lost_before && cut && flags ? lost_before + cut + flags : 0;
}

/* What all that follows the source may take, but the payload: so many bytes are looked at. */
#define QUICK_TAIL 32
/* Of microseconds since 1970, from 1979 to 3111. */
#define TIME_LENGTH 8

/* The usual record, of which nothing is long, with enough bytes behind it that none of its numbers
 * need be held against the end. Its length; 0 when there is anything to it, to be looked at by the
 * careful way: where both give an answer, it is the same one. */
static inline size_t read_quickly(const uint8_t *from, size_t size, struct avro_log_record *ret)
{
    const uint8_t *at = from, *end = from + size;
    int64_t payload_length;
    size_t n;

    if (size < AVRO_LOG_RECORD_OVERHEAD + SOCKET_ADDRESS_TEXT_SIZE + QUICK_TAIL)
        return 0;
    if ((n = read_quick(at, &ret->seq)) == 0 && (n = varint_read_quick(at, &ret->seq)) == 0)
        return 0;
    at += n;
    if (varint_read_quick(at, &ret->received_at_us) != TIME_LENGTH)
        return 0;
    at += TIME_LENGTH;
    if ((n = read_int_quick(at, &ret->received_ns)) == 0)
        return 0;
    at += n;
    ret->source_length = *at / 2;
    if (*at % 2 || *at > 0x7f || ret->source_length >= SOCKET_ADDRESS_TEXT_SIZE)
        return 0;
    at++;
    ret->source = (const char *)at;
    at += ret->source_length;
    if ((n = read_rare_quick(at, ret)) == 0)
        return 0;
    at += n;
    if ((n = read_quick(at, &payload_length)) == 0)
        return 0;
    at += n;
    if (payload_length < 0 || payload_length > CHANNEL_DATAGRAM_MAX ||
        payload_length + AVRO_LOG_CRC_SIZE > end - at || ret->seq < 0 ||
        ret->seq > AVRO_LOG_SEQ_MAX || ret->received_ns < 0 || ret->received_ns > 999)
        return 0;
    ret->payload = at;
    ret->payload_length = (size_t)payload_length;
    at += payload_length;
    ret->crc32c = read_crc(at);
    if (crc32c(from, (size_t)(at - from)) != ret->crc32c)
        return 0;
    return (size_t)(at - from) + AVRO_LOG_CRC_SIZE;
}

/* Not inlined: the quick way goes without its registers. */
static __attribute__((noinline)) long
read_carefully(const uint8_t *from, size_t size, struct avro_log_record *ret, const char **ret_what)
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
    ret->crc32c = read_crc(crc_at);
    if (ret->seq < 0 || ret->seq > AVRO_LOG_SEQ_MAX || ret->received_ns < 0 ||
        ret->received_ns > 999) {
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

long avro_log_read_record(const uint8_t *from, size_t size, struct avro_log_record *ret,
                          const char **ret_what)
{
    size_t length = read_quickly(from, size, ret);
    if (length == 0) {
        ret->payload = NULL; /* callers see by it how far the careful way came */
        return read_carefully(from, size, ret, ret_what);
    }
    *ret_what = "";
    return (long)length;
}
