/* SPDX-License-Identifier: MIT */
/* Finds the records of a block behind those that are damaged or lost. Called by the scan, and where
 * a file's end is judged. What looks for records in any place finds what senders have put into
 * their payloads, too. So the unsound record's payload is passed over if its head can be right: a
 * killed recorder leaves such a record, whole but for its checksum. A wrong length is told from
 * that by its checksum, which is right when one bit is turned back, and which nobody can foresee
 * who doesn't know the receive time. What is found elsewhere must go on up to the file's own
 * marker: behind a lost page, nobody can tell a payload from records. Each byte is looked at once,
 * and what looked like a record and was none counts as waste. */
#include "common/avro_log_beyond.h"

#include <string.h>

#include "common/avro_log_format.h"

#define HEAD_MAX (AVRO_LOG_RECORD_OVERHEAD + SOCKET_ADDRESS_TEXT_SIZE)
/* Beside what is summed up, as if it were bytes. */
#define TURNS_COST ((uint64_t)8 * HEAD_MAX * 16)

/* The length of the sound record there, else 0. */
static uint64_t read_record(const uint8_t *bytes, size_t size, struct avro_log_record *ret,
                            struct avro_log_waste *waste)
{
    const char *what;
    *ret = (struct avro_log_record){0};
    long length = avro_log_read_record(bytes, size, ret, &what);
    if (length <= 0)
        waste->bytes += ret->payload ? ret->payload_length : 0;
    return length > 0 ? (uint64_t)length : 0;
}

/* The length of the unsound record there if one wrong bit in its head explains it, else 0; *ret_seq
 * is its number. The bytes are the window's own, and are the same afterwards. */
static uint64_t true_length(const struct avro_log_beyond *beyond, uint8_t *bytes, size_t size,
                            uint64_t *ret_seq, struct avro_log_waste *waste)
{
    const size_t head = size < HEAD_MAX ? size : HEAD_MAX;
    struct avro_log_record other;
    uint64_t length = 0;
    waste->bytes += TURNS_COST;
    for (size_t bit = 0; bit < 8 * head && length == 0 && waste->bytes <= waste->most; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        length = read_record(bytes, size, &other, waste);
        *ret_seq = (uint64_t)other.seq;
        if (beyond->exact ? *ret_seq != beyond->due : *ret_seq < beyond->due)
            length = 0;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return length;
}

/* How much lies in the unsound record, by what can be believed of its head. At least one byte: a
 * marker that is damaged may be there instead. *ret_next: the number of the record that follows for
 * certain, 0 = not known. */
static uint64_t extent_of(const struct avro_log_beyond *beyond, uint8_t *bytes, size_t size,
                          struct avro_log_waste *waste, uint64_t *ret_next)
{
    struct avro_log_record record;
    size_t most = size < AVRO_LOG_RECORD_MAX ? size : AVRO_LOG_RECORD_MAX;
    uint64_t seq, length = true_length(beyond, bytes, most, &seq, waste);
    *ret_next = length > 0 ? seq + 1 : 0;
    if (length > 0)
        return length;
    read_record(bytes, most, &record, waste);
    bool is_due = beyond->exact ? (uint64_t)record.seq == beyond->due
                                : record.seq >= 0 && (uint64_t)record.seq >= beyond->due;
    if (beyond->in_payload || !is_due || record.payload_length == 0 ||
        record.payload_length > CHANNEL_DATAGRAM_MAX)
        return 1;
    length = record.payload ? (uint64_t)(record.payload - bytes) + record.payload_length : size;
    waste->bytes += length;
    return memmem(bytes, length, beyond->sync, AVRO_LOG_SYNC_SIZE) ? 1 : length;
}

/* May a record with this number lie so far behind the unsound one? Where only a marker and a header
 * were lost, it is the one that is due. */
static bool is_possible(const struct avro_log_beyond *beyond, uint64_t seq, uint64_t distance)
{
    if (seq == beyond->due)
        return beyond->exact && distance == AVRO_LOG_SYNC_SIZE + AVRO_LOG_BLOCK_HEADER_SIZE;
    return seq > beyond->due &&
           (!beyond->exact || seq - beyond->due <= distance / AVRO_LOG_RECORD_LEAST);
}

static bool is_marker(const struct avro_log_beyond *beyond, const uint8_t *bytes, size_t size)
{
    return size >= AVRO_LOG_SYNC_SIZE && memcmp(bytes, beyond->sync, AVRO_LOG_SYNC_SIZE) == 0;
}

/* The records from there on are sound and in a row up to the block's end, which the file's own
 * marker tells: nobody who sends knows that, and what lies in a payload ends before its record's
 * checksum. */
static bool is_proven(const struct avro_log_beyond *beyond, const uint8_t *bytes, size_t size,
                      uint64_t seq, struct avro_log_waste *waste)
{
    struct avro_log_record record;
    size_t at = 0;
    for (; waste->bytes <= waste->most; seq++) {
        if (is_marker(beyond, bytes + at, size - at))
            return true;
        if (at == size) /* a sealed block's records end where its marker is */
            return beyond->sealed;
        uint64_t length = read_record(bytes + at, size - at, &record, waste);
        if (length == 0 || (uint64_t)record.seq != seq)
            break;
        at += length;
    }
    waste->bytes += at; /* read for nothing */
    return false;
}

bool avro_log_find_beyond(const struct avro_log_beyond *beyond, struct avro_log_window *window,
                          struct avro_log_waste *waste, uint64_t *ret_at, uint64_t *ret_seq)
{
    struct avro_log_record record;
    size_t size;
    uint64_t want = AVRO_LOG_BLOCK_MAX + AVRO_LOG_RECORD_MAX;
    if (want > beyond->limit - beyond->at)
        want = beyond->limit - beyond->at;
    const uint8_t *bytes = avro_log_window_view(window, beyond->at, want, &size);
    if (size > want)
        size = want;
    if (size < AVRO_LOG_RECORD_LEAST || waste->bytes > waste->most)
        return false;
    struct avro_log_beyond seen = *beyond; /* a sealed block's end, if that is in view */
    seen.sealed = beyond->sealed && size == beyond->limit - beyond->at;
    uint64_t next;
    uint64_t i = extent_of(beyond, window->bytes + (bytes - window->bytes), size, waste, &next);
    for (const uint64_t first = i;
         i < size && i < AVRO_LOG_BLOCK_MAX && waste->bytes <= waste->most; i++) {
        int64_t seq;
        if (is_marker(beyond, bytes + i, size - i))
            return false; /* another block begins */
        if (avro_log_read_long(bytes + i, size - i, &seq) <= 0 || seq < 0 ||
            !is_possible(beyond, (uint64_t)seq, i))
            continue;
        uint64_t length = read_record(bytes + i, size - i, &record, waste);
        bool is_next = next > 0 && i == first && (uint64_t)seq == next;
        if (length == 0 || (!is_next && !beyond->in_payload &&
                            !is_proven(&seen, bytes + i, size - i, (uint64_t)seq, waste)))
            continue;
        *ret_at = beyond->at + i;
        *ret_seq = (uint64_t)seq;
        return true;
    }
    return false;
}
