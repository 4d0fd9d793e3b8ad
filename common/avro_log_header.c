/* SPDX-License-Identifier: MIT */
/* Encodes and decodes the log's file header. Used by the recorder when it begins a segment, by the
 * archive, by holdfastctl and by tests. Must never read a byte whose presence it has not checked,
 * nor take a value that its checksum doesn't vouch for. */
#include "common/avro_log_header.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_varint.h"
#include "common/fd.h"

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

enum entry {
    ENTRY_SCHEMA,
    ENTRY_CODEC,
    ENTRY_CHANNEL,
    ENTRY_FIRST_SEQ,
    ENTRY_CREATED,
    ENTRY_VERSION,
    ENTRY_LISTEN,
    ENTRY_LOG,
    ENTRY_CHECK,
    ENTRY_LAST_SEQ, /* from here on: written at seal */
    ENTRY_RECORDS,
    ENTRY_FIRST_TIME,
    ENTRY_LAST_TIME,
    ENTRY_LATEST,
    ENTRY_SUM,
    ENTRY_COUNT,
};

static const char *const keys[ENTRY_COUNT] = {
    [ENTRY_SCHEMA] = "avro.schema",
    [ENTRY_CODEC] = "avro.codec",
    [ENTRY_CHANNEL] = "holdfast.channel",
    [ENTRY_FIRST_SEQ] = "holdfast.first_seq",
    [ENTRY_CREATED] = "holdfast.created",
    [ENTRY_VERSION] = "holdfast.version",
    [ENTRY_LISTEN] = "holdfast.listen",
    [ENTRY_LOG] = "holdfast.log",
    [ENTRY_CHECK] = "holdfast.check",
    [ENTRY_LAST_SEQ] = "holdfast.last_seq",
    [ENTRY_RECORDS] = "holdfast.records",
    [ENTRY_FIRST_TIME] = "holdfast.first_time",
    [ENTRY_LAST_TIME] = "holdfast.last_time",
    [ENTRY_LATEST] = "holdfast.latest",
    [ENTRY_SUM] = "holdfast.sum",
};

#define BIT(entry)    (1u << (entry))
#define EVERY_VERSION /* has these */                                                              \
    (BIT(ENTRY_SCHEMA) | BIT(ENTRY_CODEC) | BIT(ENTRY_CHANNEL) | BIT(ENTRY_FIRST_SEQ) |            \
     BIT(ENTRY_CREATED) | BIT(ENTRY_VERSION))
#define SINCE_CHECK   /* has these, too */ (BIT(ENTRY_COUNT) - BIT(ENTRY_LISTEN))

#define NUMBER_FORMAT "%020llu"
#define NUMBER_SIZE   20
#define CRC_FORMAT    "%08x"
#define CRC_TEXT_SIZE 8

bool avro_log_id_is_known(const uint8_t log_id[AVRO_LOG_ID_SIZE])
{
    static const uint8_t unknown[AVRO_LOG_ID_SIZE];
    return memcmp(log_id, unknown, sizeof unknown) != 0;
}

/* ---- writing ---- */

static uint8_t *put_bytes(uint8_t *to, const void *bytes, size_t size)
{
    to = varint_put(to, (int64_t)size);
    memcpy(to, bytes, size);
    return to + size;
}

static uint8_t *put_entry(uint8_t *to, enum entry entry, const char *value)
{
    to = put_bytes(to, keys[entry], strlen(keys[entry]));
    return put_bytes(to, value, strlen(value));
}

static uint8_t *put_number(uint8_t *to, enum entry entry, uint64_t value)
{
    char number[24];
    snprintf(number, sizeof number, NUMBER_FORMAT, (unsigned long long)value);
    return put_entry(to, entry, number);
}

static void print_id(const uint8_t log_id[AVRO_LOG_ID_SIZE], char ret_text[])
{
    for (size_t i = 0; i < AVRO_LOG_ID_SIZE; i++)
        snprintf(ret_text + 2 * i, 3, "%02x", log_id[i]);
}

static void print_crc(uint32_t crc, char ret_text[CRC_TEXT_SIZE + 1])
{
    snprintf(ret_text, CRC_TEXT_SIZE + 1, CRC_FORMAT, crc);
}

/* Of what is written at begin: `size` bytes from the file's start, and the sync marker. */
static uint32_t begin_crc(const uint8_t *from, size_t size, const uint8_t *sync)
{
    uint8_t together[AVRO_LOG_HEADER_MAX + AVRO_LOG_SYNC_SIZE];
    memcpy(together, from, size);
    memcpy(together + size, sync, AVRO_LOG_SYNC_SIZE);
    return avro_log_crc32c(together, size + AVRO_LOG_SYNC_SIZE);
}

size_t avro_log_write_header(uint8_t *to, const struct avro_log_identity *identity)
{
    char log_id[2 * AVRO_LOG_ID_SIZE + 1], crc[CRC_TEXT_SIZE + 1], blank[NUMBER_SIZE + 1];
    uint8_t *at = to;
    memcpy(at, "Obj\1", 4);
    at = varint_put(at + 4, ENTRY_COUNT);
    at = put_entry(at, ENTRY_SCHEMA, avro_log_schema);
    at = put_entry(at, ENTRY_CODEC, "null");
    at = put_entry(at, ENTRY_CHANNEL, identity->channel);
    at = put_number(at, ENTRY_FIRST_SEQ, identity->first_seq);
    at = put_number(at, ENTRY_CREATED, identity->created_ns);
    at = put_entry(at, ENTRY_VERSION, AVRO_LOG_VERSION);
    at = put_entry(at, ENTRY_LISTEN, identity->listen);
    print_id(identity->log_id, log_id);
    at = put_entry(at, ENTRY_LOG, log_id);

    memset(blank, ' ', NUMBER_SIZE);
    blank[NUMBER_SIZE] = '\0';
    uint8_t *end = put_entry(at, ENTRY_CHECK, blank + NUMBER_SIZE - CRC_TEXT_SIZE);
    print_crc(begin_crc(to, (size_t)(end - CRC_TEXT_SIZE - to), identity->sync), crc);
    at = put_entry(at, ENTRY_CHECK, crc);
    for (enum entry entry = ENTRY_LAST_SEQ; entry < ENTRY_SUM; entry++)
        at = put_entry(at, entry, blank);
    at = put_entry(at, ENTRY_SUM, blank + NUMBER_SIZE - CRC_TEXT_SIZE);
    at = varint_put(at, 0);
    memcpy(at, identity->sync, AVRO_LOG_SYNC_SIZE);
    return (size_t)(at - to) + AVRO_LOG_SYNC_SIZE;
}

/* ---- where everything is ---- */

struct header {
    const uint8_t *from;
    struct {
        const uint8_t *value;
        size_t length;
    } entries[ENTRY_COUNT];
    unsigned seen;
    const uint8_t *sync;
    size_t size;
};

static bool take_entry(struct header *header, struct walk *walk)
{
    int64_t key_length = walk_long(walk);
    const uint8_t *key = walk_take(walk, key_length);
    int64_t length = walk_long(walk);
    const uint8_t *value = walk_take(walk, length);
    if (!value)
        return false;
    for (unsigned i = 0; i < ENTRY_COUNT; i++) {
        if (strlen(keys[i]) != (size_t)key_length || memcmp(keys[i], key, (size_t)key_length) != 0)
            continue;
        if (header->seen & BIT(i))
            return false;
        header->seen |= BIT(i);
        header->entries[i].value = value;
        header->entries[i].length = (size_t)length;
    }
    return true; /* a key of somebody else is none of our business */
}

static bool find_entries(const uint8_t *from, size_t size, struct header *ret,
                         const char **ret_what)
{
    if (size > AVRO_LOG_HEADER_MAX)
        size = AVRO_LOG_HEADER_MAX;
    struct walk walk = {from, from + size, false};
    *ret = (struct header){.from = from};
    *ret_what = "not an Avro file (magic)";
    const uint8_t *magic = walk_take(&walk, 4);
    if (!magic || memcmp(magic, "Obj\1", 4) != 0)
        return false;
    *ret_what = "the header's metadata is damaged";
    for (;;) {
        int64_t entries = walk_long(&walk);
        if (walk.failed || entries < 0 || entries > 64)
            return false;
        if (entries == 0)
            break;
        for (; entries > 0; entries--)
            if (!take_entry(ret, &walk))
                return false;
    }
    ret->sync = walk_take(&walk, AVRO_LOG_SYNC_SIZE);
    ret->size = (size_t)(walk.at - from);
    return ret->sync != NULL;
}

static bool entry_is(const struct header *header, enum entry entry, const char *text)
{
    const uint8_t *value = header->entries[entry].value;
    return value && header->entries[entry].length == strlen(text) &&
           memcmp(value, text, strlen(text)) == 0;
}

/* As string; false when it isn't there, doesn't fit, or has a zero byte in it. */
static bool entry_text(const struct header *header, enum entry entry, char *text, size_t size)
{
    const uint8_t *value = header->entries[entry].value;
    size_t length = header->entries[entry].length;
    if (!value || length >= size || memchr(value, '\0', length))
        return false;
    memcpy(text, value, length);
    text[length] = '\0';
    return true;
}

static bool entry_number(const struct header *header, enum entry entry, uint64_t *ret)
{
    char text[64];
    if (!entry_text(header, entry, text, sizeof text) || !*text ||
        strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    *ret = strtoull(text, NULL, 10);
    return errno == 0;
}

static bool entry_is_crc(const struct header *header, enum entry entry, uint32_t crc)
{
    char text[CRC_TEXT_SIZE + 1];
    print_crc(crc, text);
    return entry_is(header, entry, text);
}

static size_t value_offset(const struct header *header, enum entry entry)
{
    return (size_t)(header->entries[entry].value - header->from);
}

/* ---- reading ---- */

static bool read_id(const struct header *header, uint8_t ret[AVRO_LOG_ID_SIZE])
{
    char text[2 * AVRO_LOG_ID_SIZE + 1];
    if (!entry_text(header, ENTRY_LOG, text, sizeof text) ||
        strspn(text, "0123456789abcdef") != 2 * AVRO_LOG_ID_SIZE)
        return false;
    for (size_t i = 0; i < AVRO_LOG_ID_SIZE; i++) {
        const char digits[] = {text[2 * i], text[2 * i + 1], '\0'};
        ret[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return true;
}

static const char *read_every_version(const struct header *header, struct avro_log_identity *ret)
{
    if ((header->seen & EVERY_VERSION) != EVERY_VERSION)
        return "an Avro file, but not written by holdfast (metadata missing)";
    if (!entry_is(header, ENTRY_SCHEMA, avro_log_schema))
        return "the schema is not the one of this version";
    if (!entry_is(header, ENTRY_CODEC, "null"))
        return "the codec is not null";
    if (!entry_is(header, ENTRY_VERSION, AVRO_LOG_VERSION))
        return "another version of the log format";
    if (!entry_text(header, ENTRY_CHANNEL, ret->channel, sizeof ret->channel) || !ret->channel[0])
        return "the channel name is too long";
    if (!entry_number(header, ENTRY_FIRST_SEQ, &ret->first_seq) ||
        ret->first_seq > AVRO_LOG_SEQ_MAX)
        return "holdfast.first_seq is not a sequence number";
    if (!entry_number(header, ENTRY_CREATED, &ret->created_ns))
        return "holdfast.created is not a number";
    memcpy(ret->sync, header->sync, AVRO_LOG_SYNC_SIZE);
    return NULL;
}

/* The entries stand in the order in which they are written: what a checksum covers lies before it.
 */
static bool in_order(const struct header *header)
{
    for (unsigned i = 1; i < ENTRY_COUNT; i++)
        if (header->entries[i].value <= header->entries[i - 1].value)
            return false;
    return true;
}

static const char *read_since_check(const struct header *header, struct avro_log_identity *ret)
{
    if ((header->seen & SINCE_CHECK) == 0)
        return NULL; /* an older version's */
    if (header->seen != BIT(ENTRY_COUNT) - 1 || !in_order(header))
        return "the header's metadata is damaged: entries are missing or out of order";
    size_t size = value_offset(header, ENTRY_CHECK);
    if (!entry_is_crc(header, ENTRY_CHECK, begin_crc(header->from, size, header->sync)))
        return "the header's checksum (holdfast.check) is wrong";
    if (!entry_text(header, ENTRY_LISTEN, ret->listen, sizeof ret->listen) ||
        !read_id(header, ret->log_id))
        return "holdfast.listen or holdfast.log is not as it should be";
    ret->has_check = true;
    return NULL;
}

static uint32_t totals_crc(const struct header *header)
{
    const uint8_t *from = header->entries[ENTRY_CHECK].value;
    return avro_log_crc32c(from, (size_t)(header->entries[ENTRY_SUM].value - from));
}

/* As a header is begun. */
static bool totals_are_blank(const struct header *header)
{
    for (unsigned entry = ENTRY_LAST_SEQ; entry < ENTRY_COUNT; entry++)
        for (size_t i = 0; i < header->entries[entry].length; i++)
            if (header->entries[entry].value[i] != ' ')
                return false;
    return true;
}

static void read_totals(const struct header *header, struct avro_log_identity *ret)
{
    struct avro_log_totals *totals = &ret->totals;
    ret->has_totals = ret->has_check && entry_is_crc(header, ENTRY_SUM, totals_crc(header)) &&
                      entry_number(header, ENTRY_LAST_SEQ, &totals->last_seq) &&
                      totals->last_seq <= AVRO_LOG_SEQ_MAX &&
                      entry_number(header, ENTRY_RECORDS, &totals->records) &&
                      entry_number(header, ENTRY_FIRST_TIME, &totals->first_time_ns) &&
                      entry_number(header, ENTRY_LAST_TIME, &totals->last_time_ns) &&
                      entry_number(header, ENTRY_LATEST, &totals->latest_ns);
    ret->totals_damaged = ret->has_check && !ret->has_totals && !totals_are_blank(header);
    if (!ret->has_totals)
        *totals = (struct avro_log_totals){0};
}

long avro_log_read_header(const uint8_t *from, size_t size, struct avro_log_identity *ret,
                          const char **ret_what)
{
    struct header header;
    memset(ret, 0, sizeof *ret);
    if (!find_entries(from, size, &header, ret_what))
        return -EBADMSG;
    *ret_what = read_every_version(&header, ret);
    if (!*ret_what)
        *ret_what = read_since_check(&header, ret);
    if (*ret_what)
        return -EBADMSG;
    read_totals(&header, ret);
    *ret_what = "";
    return (long)header.size;
}

static ssize_t load(int fd, uint8_t bytes[AVRO_LOG_HEADER_MAX])
{
    ssize_t length;
    do
        length = pread(fd, bytes, AVRO_LOG_HEADER_MAX, 0);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return errno == EBADMSG ? -EIO : -errno; /* a file system's own checksum was wrong */
    return length;
}

long avro_log_load_header(int fd, struct avro_log_identity *ret, const char **ret_what)
{
    uint8_t bytes[AVRO_LOG_HEADER_MAX];
    ssize_t length = load(fd, bytes);
    if (length >= 0)
        return avro_log_read_header(bytes, (size_t)length, ret, ret_what);
    *ret_what = "the file can't be read";
    return length;
}

/* ---- totals, in place ---- */

static void set_number(uint8_t *bytes, const struct header *header, enum entry entry,
                       uint64_t value)
{
    char number[24];
    snprintf(number, sizeof number, NUMBER_FORMAT, (unsigned long long)value);
    memcpy(bytes + value_offset(header, entry), number, NUMBER_SIZE);
}

static bool has_room(const struct header *header)
{
    for (enum entry entry = ENTRY_LAST_SEQ; entry < ENTRY_SUM; entry++)
        if (header->entries[entry].length != NUMBER_SIZE)
            return false;
    return header->entries[ENTRY_SUM].length == CRC_TEXT_SIZE;
}

int avro_log_write_totals(int fd, const struct avro_log_totals *totals)
{
    uint8_t bytes[AVRO_LOG_HEADER_MAX];
    struct avro_log_identity identity;
    struct header header;
    char crc[CRC_TEXT_SIZE + 1];
    const char *what;

    ssize_t length = load(fd, bytes);
    if (length < 0)
        return (int)length;
    if (avro_log_read_header(bytes, (size_t)length, &identity, &what) < 0 ||
        !find_entries(bytes, (size_t)length, &header, &what))
        return -EBADMSG;
    if (!identity.has_check || !has_room(&header))
        return 0;
    size_t from = value_offset(&header, ENTRY_LAST_SEQ), sum = value_offset(&header, ENTRY_SUM);
    set_number(bytes, &header, ENTRY_LAST_SEQ, totals->last_seq);
    set_number(bytes, &header, ENTRY_RECORDS, totals->records);
    set_number(bytes, &header, ENTRY_FIRST_TIME, totals->first_time_ns);
    set_number(bytes, &header, ENTRY_LAST_TIME, totals->last_time_ns);
    set_number(bytes, &header, ENTRY_LATEST, totals->latest_ns);
    print_crc(totals_crc(&header), crc);
    /* A kill between two of these leaves a blank sum: not one that vouches for half of the values.
     */
    int result = fd_write_all(fd, "        ", CRC_TEXT_SIZE, sum);
    if (result == 0)
        result = fd_write_all(fd, bytes + from, sum - from, from);
    if (result == 0)
        result = fd_write_all(fd, crc, CRC_TEXT_SIZE, sum);
    return result < 0 ? result : 1;
}
