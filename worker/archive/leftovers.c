/* SPDX-License-Identifier: MIT */
/* Compares what two segments hold of the same numbers. Called by recovery before it ends a segment
 * where another one is said to begin. Must never take a record for another one's copy by its number
 * alone: names and headers of files may be wrong, checksums of whole records are not. */
#include "worker/archive/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/avro_log_scan.h"
#include "common/fd.h"

struct leftover {
    uint64_t seq;
    uint32_t crc; /* of the record as encoded */
    bool found;
};

struct leftovers {
    struct leftover *list; /* by seq */
    size_t count, capacity;
    uint64_t seq_end;
};

static uint32_t crc_of(const struct avro_log_found *found)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < AVRO_LOG_CRC_SIZE; i++)
        crc = crc << 8 | found->bytes[found->length - AVRO_LOG_CRC_SIZE + i];
    return crc;
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
        (struct leftover){(uint64_t)found->record.seq, crc_of(found), false};
    return 0;
}

static int by_seq(const void *key, const void *element)
{
    uint64_t seq = *(const uint64_t *)key, other = ((const struct leftover *)element)->seq;
    return seq < other ? -1 : seq > other ? 1 : 0;
}

static int compare(void *context, const struct avro_log_found *found)
{
    const struct leftovers *leftovers = context;
    uint64_t seq = (uint64_t)found->record.seq;
    struct leftover *leftover =
        bsearch(&seq, leftovers->list, leftovers->count, sizeof *leftover, by_seq);
    if (leftover && leftover->crc == crc_of(found))
        leftover->found = true;
    return 0;
}

static int scan(int fd, int (*record)(void *context, const struct avro_log_found *found),
                struct leftovers *leftovers)
{
    const struct avro_log_scan_options whole = {.open = true, .seq_end = UINT64_MAX};
    const struct avro_log_visitor visitor = {.context = leftovers, .record = record};
    struct avro_log_summary summary;
    return avro_log_scan(fd, &whole, &visitor, &summary);
}

int leftovers_are_elsewhere(int folder, int fd, uint64_t seq_end, const char *later)
{
    struct leftovers leftovers = {.seq_end = seq_end};
    int result = scan(fd, collect, &leftovers);
    if (result == 0 && leftovers.count > 0) {
        int other = openat(folder, later, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        result = other < 0 ? -errno : scan(other, compare, &leftovers);
        fd_close(&other);
    }
    if (result == 0) {
        result = 1;
        for (size_t i = 0; i < leftovers.count; i++)
            result = result && leftovers.list[i].found;
    }
    free(leftovers.list);
    return result;
}
