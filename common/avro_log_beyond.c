/* SPDX-License-Identifier: MIT */
/* Finds the records of a block behind those that are damaged or lost. Called by the scan, and where
 * a file's end is judged. What looks for records in any place finds what senders have put into
 * their payloads, too. So the unsound record's payload is passed over if its head can be right: a
 * killed recorder leaves such a record, whole but for its checksum. A wrong length is told from
 * that by its checksum, which is right when one bit is turned back, and which nobody can foresee
 * who doesn't know the receive time. Each byte is looked at once, and what looked like a record and
 * was none counts as waste. */
#include "common/avro_log_beyond.h"

#include <string.h>

#include "common/avro_log_format.h"

#define HEAD_MAX    (AVRO_LOG_RECORD_OVERHEAD + SOCKET_ADDRESS_TEXT_SIZE)
#define LENGTH_SIZE 4 /* a payload's length takes up to three bytes; a wrong bit adds one */
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

/* The length of the unsound record there if one wrong bit in its lengths explains it, else 0. The
 * bytes are the window's own, and are the same afterwards. */
static uint64_t true_length(uint8_t *bytes, size_t size, const struct avro_log_record *record,
                            struct avro_log_waste *waste)
{
    size_t from = 0, to = size < HEAD_MAX ? size : HEAD_MAX;
    struct avro_log_record other;
    uint64_t length = 0;
    if (record->payload) {
        to = (size_t)(record->payload - bytes);
        from = to - LENGTH_SIZE;
    }
    for (size_t bit = 8 * from; bit < 8 * to && length == 0 && waste->bytes <= waste->most; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        length = read_record(bytes, size, &other, waste);
        if (other.seq != record->seq)
            length = 0;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return length;
}

/* How much lies in the unsound record, by what can be believed of its head. At least one byte: a
 * marker that is damaged may be there instead. */
static uint64_t extent_of(const struct avro_log_beyond *beyond, uint8_t *bytes, size_t size,
                          struct avro_log_waste *waste)
{
    struct avro_log_record record;
    size_t most = size < AVRO_LOG_RECORD_MAX ? size : AVRO_LOG_RECORD_MAX;
    read_record(bytes, most, &record, waste);
    const uint64_t seq = (uint64_t)record.seq;
    bool is_due = beyond->exact ? seq == beyond->due : seq >= beyond->due && record.seq >= 0;
    if (!is_due || record.payload_length == 0 || record.payload_length > CHANNEL_DATAGRAM_MAX)
        return 1;
    waste->bytes += TURNS_COST;
    uint64_t length = true_length(bytes, most, &record, waste);
    if (length > 0)
        return length;
    if (beyond->in_payload)
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

/* Where its number says less, the next one does. */
static bool goes_on(const struct avro_log_beyond *beyond, const uint8_t *bytes, size_t size,
                    uint64_t seq, struct avro_log_waste *waste)
{
    struct avro_log_record next;
    return is_marker(beyond, bytes, size) ||
           (read_record(bytes, size, &next, waste) > 0 && (uint64_t)next.seq == seq + 1);
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
    uint64_t i = extent_of(beyond, window->bytes + (bytes - window->bytes), size, waste);
    for (; i < size && i < AVRO_LOG_BLOCK_MAX && waste->bytes <= waste->most; i++) {
        int64_t seq;
        if (is_marker(beyond, bytes + i, size - i))
            return false; /* another block begins */
        if (avro_log_read_long(bytes + i, size - i, &seq) <= 0 || seq < 0 ||
            !is_possible(beyond, (uint64_t)seq, i))
            continue;
        uint64_t length = read_record(bytes + i, size - i, &record, waste);
        if (length == 0 || (!beyond->exact && !goes_on(beyond, bytes + i + length,
                                                       size - i - length, (uint64_t)seq, waste)))
            continue;
        *ret_at = beyond->at + i;
        *ret_seq = (uint64_t)seq;
        return true;
    }
    return false;
}
