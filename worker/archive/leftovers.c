/* SPDX-License-Identifier: MIT */
/* Compares what segments hold of the same numbers. Called by recovery before it ends a segment
 * where another one is said to begin. Must never take a record for another one's copy by its number
 * alone: names and headers of files may be wrong, records that their checksum vouches for are not.
 */
#include "worker/archive/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/avro_log_format.h"
#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "common/fd.h"
#include "worker/archive/folder.h"

struct leftover {
    uint64_t seq;
    uint64_t digest;
    bool found;
};

struct leftovers {
    struct leftover *list; /* by seq */
    size_t count, capacity, found;
    uint64_t seq_end;
};

/* Of all but the flags: a datagram that was recorded, and kills a worker before that is committed,
 * is recorded again with another one. */
static uint64_t digest_of(const struct avro_log_record *record)
{
    uint8_t head[AVRO_LOG_RECORD_OVERHEAD + SOCKET_ADDRESS_TEXT_SIZE];
    struct avro_log_record plain = *record;
    plain.flags = 0;
    size_t head_size = (size_t)(avro_log_write_record_head(head, &plain) - head);
    return (uint64_t)avro_log_crc32c(head, head_size) << 32 |
           avro_log_crc32c(record->payload, record->payload_length);
}

static int collect(void *context, const struct avro_log_found *found)
{
    struct leftovers *leftovers = context;
    if ((uint64_t)found->record.seq < leftovers->seq_end)
        return 0;
    if (leftovers->count == leftovers->capacity) {
        size_t capacity = leftovers->capacity ? 2 * leftovers->capacity : 256;
        struct leftover *list = realloc(leftovers->list, capacity * sizeof *list);
        if (!list)
            return -ENOMEM;
        leftovers->list = list;
        leftovers->capacity = capacity;
    }
    leftovers->list[leftovers->count++] =
        (struct leftover){(uint64_t)found->record.seq, digest_of(&found->record), false};
    return 0;
}

static int by_seq(const void *key, const void *element)
{
    uint64_t seq = *(const uint64_t *)key, other = ((const struct leftover *)element)->seq;
    return seq < other ? -1 : seq > other ? 1 : 0;
}

static int compare(void *context, const struct avro_log_found *found)
{
    struct leftovers *leftovers = context;
    uint64_t seq = (uint64_t)found->record.seq;
    struct leftover *leftover =
        bsearch(&seq, leftovers->list, leftovers->count, sizeof *leftover, by_seq);
    if (leftover && !leftover->found && leftover->digest == digest_of(&found->record)) {
        leftover->found = true;
        leftovers->found++;
    }
    return leftovers->found == leftovers->count; /* then the rest need not be read */
}

static int scan(int fd, int (*record)(void *context, const struct avro_log_found *found),
                struct leftovers *leftovers)
{
    const struct avro_log_scan_options whole = {.open = true, .seq_end = UINT64_MAX};
    const struct avro_log_visitor visitor = {.context = leftovers, .record = record};
    struct avro_log_summary summary;
    return avro_log_scan(fd, &whole, &visitor, &summary);
}

/* May it have some of them? One that was begun and not renamed yet has no number in its name. */
static bool may_have(const struct leftovers *leftovers, const struct folder_file *file)
{
    if (file->first_seq == UINT64_MAX)
        return avro_log_name_ends_in(file->name, AVRO_LOG_OPEN_SUFFIX);
    return folder_file_is_segment(file) && file->first_seq >= leftovers->seq_end &&
           file->first_seq <= leftovers->list[leftovers->count - 1].seq;
}

static int look_in(int folder, const char *name, struct leftovers *leftovers)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int result = fd < 0 ? -errno : scan(fd, compare, leftovers);
    fd_close(&fd);
    return result == -EIO ? 0 : result; /* what the disk can't read has none of them */
}

/* In as many files as it takes: segments that are smaller than before, or many that were begun one
 * after the other and hardly written to. */
static int look_in_later(int folder, const char *channel, ino_t own, struct leftovers *leftovers)
{
    struct folder_list list;
    int result = folder_list(folder, channel, &list);
    if (result == -EIO)
        result = -EAGAIN;                                  /* that says nothing about the file */
    for (size_t i = 0; result == 0 && i < list.count; i++) /* 1: all are found */
        if (list.files[i].id != own && may_have(leftovers, &list.files[i]))
            result = look_in(folder, list.files[i].name, leftovers);
    folder_list_free(&list);
    return result;
}

int leftovers_are_elsewhere(int folder, const char *channel, int fd, uint64_t seq_end)
{
    struct leftovers leftovers = {.seq_end = seq_end};
    struct stat status;
    int result = scan(fd, collect, &leftovers);
    if (result == 0 && fstat(fd, &status) < 0)
        result = -errno;
    if (result == 0 && leftovers.count > 0)
        result = look_in_later(folder, channel, status.st_ino, &leftovers);
    free(leftovers.list);
    return result < 0 ? result : leftovers.found == leftovers.count;
}
