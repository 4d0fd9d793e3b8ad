/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* The header of a log file: an Avro container's, with entries of ours in its metadata map, which
 * other readers pass over. holdfast-log.5 lists them.
 *
 *   written              entries                                                 vouched for by
 *   at begin, for good   schema, codec, channel, first_seq, created, version,    check: CRC of all bytes before
 *                        listen, log                                             its value and the sync marker
 *   at seal, in place    last_seq, records, first_time, last_time, latest        sum: CRC of all bytes from
 *                                                                                check's value to its own
 *
 * Write order at seal: sum becomes blank, the values are written, then sum. Whatever the order in
 * which these reach the disk, a sum that isn't right means that the values aren't known; a file
 * without these entries is one of an older version. */
/* clang-format on */
#ifndef HOLDFAST_COMMON_AVRO_LOG_HEADER_H
#define HOLDFAST_COMMON_AVRO_LOG_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "common/channel_spec.h"

#define AVRO_LOG_VERSION    "1"
#define AVRO_LOG_HEADER_MAX 4096
#define AVRO_LOG_ID_SIZE    16

extern const char avro_log_schema[]; /* JSON, the same as conf/datagram.avsc */

/* What a sealed file holds. Times are kernel receive times, wall clock. */
struct avro_log_totals {
    uint64_t last_seq;
    uint64_t records;
    uint64_t first_time_ns, last_time_ns; /* the smallest and the largest */
    uint64_t latest_ns; /* the largest of the log up to this file's end: never falls */
};

struct avro_log_identity {
    char channel[CHANNEL_NAME_SIZE];
    uint64_t first_seq;
    uint64_t created_ns; /* wall clock */
    uint8_t sync[AVRO_LOG_SYNC_SIZE];
    char listen[SOCKET_ADDRESS_TEXT_SIZE]; /* "" = not known */
    uint8_t log_id[AVRO_LOG_ID_SIZE]; /* random, of this channel's recording; zeros = not known */
    /* Of a header that was read; not written by avro_log_write_header(). */
    bool has_check; /* and it is right; false: an older version's file */
    bool has_totals;
    bool totals_damaged; /* they were written, and are not right */
    struct avro_log_totals totals;
};

bool avro_log_id_is_known(const uint8_t log_id[AVRO_LOG_ID_SIZE]);

/* Writes the header, with blank totals. At most AVRO_LOG_HEADER_MAX bytes; returns their number,
 * which depends on the channel's name and on `listen` only. */
size_t avro_log_write_header(uint8_t *to, const struct avro_log_identity *identity);
/* Any Avro container header that holdfast wrote, of this version or an older one. Returns its
 * length, or -EBADMSG with *ret_what. */
long avro_log_read_header(const uint8_t *from, size_t size, struct avro_log_identity *ret,
                          const char **ret_what);
/* The same from the start of a file. What the file can't be read for is another -errno, never
 * -EBADMSG. May wait for a disk. */
long avro_log_load_header(int fd, struct avro_log_identity *ret, const char **ret_what);

/* Write the totals into a file's header, in place. 1 = done, 0 = it has no room for them (an older
 * version's file), -EBADMSG when there is no header, or another -errno. Not synced. */
int avro_log_write_totals(int fd, const struct avro_log_totals *totals);

#endif
