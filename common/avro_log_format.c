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
