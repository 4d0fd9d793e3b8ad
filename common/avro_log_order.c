/* SPDX-License-Identifier: MIT */
/* Judges a jump of the sequence numbers by what follows. Called by the scan where a sound record
 * has a higher number than the one that is due: as a rule, a block begins there, datagrams before
 * it were not recorded, and all that follows is higher still. What is summed up here counts as
 * waste, so that a file that is made of jumps takes no longer than another one. */
#include "common/avro_log_order.h"

#include <string.h>

#define LOOKED_AT_MOST ((size_t)512 * 1024) /* some of the longest blocks */
#define RUNS_MAX       128
#define OVERHEAD       (AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_SYNC_SIZE)

/* The length of the record there when it is sound, else 0. */
static size_t read_record(const uint8_t *bytes, size_t size, struct avro_log_record *ret,
                          struct avro_log_waste *waste)
{
    const char *what;
    ret->payload = NULL;
    long length = avro_log_read_record(bytes, size, ret, &what);
    waste->bytes += ret->payload ? ret->payload_length : 0;
    return length > 0 ? (size_t)length : 0;
}

static struct avro_log_run measure(const uint8_t *bytes, size_t size, struct avro_log_waste *waste)
{
    struct avro_log_run run = {0};
    struct avro_log_record record;
    size_t length;
    while ((length = read_record(bytes + run.length, size - run.length, &record, waste)) > 0 &&
           (run.count == 0 || (uint64_t)record.seq == run.first_seq + run.count)) {
        if (run.count++ == 0)
            run.first_seq = (uint64_t)record.seq;
        run.length += length;
    }
    return run;
}

/* What lies ahead, in the order of the file. */
struct ahead {
    struct avro_log_run runs[RUNS_MAX];
    int count;
    uint64_t least; /* lower numbers were taken already */
};

static void note(struct ahead *ahead, struct avro_log_run run)
{
    if (run.count == 0 || ahead->count == RUNS_MAX || run.count - 1 > UINT64_MAX - run.first_seq ||
        run.first_seq + (run.count - 1) < ahead->least)
        return;
    if (run.first_seq < ahead->least) {
        run.count -= ahead->least - run.first_seq;
        run.first_seq = ahead->least;
    }
    ahead->runs[ahead->count++] = run;
}

/* What else is in a block. */
static void look_into_block(struct ahead *ahead, const uint8_t *bytes, size_t size,
                            struct avro_log_waste *waste)
{
    struct avro_log_run run;
    for (; (run = measure(bytes, size, waste)).count > 0; size -= run.length) {
        note(ahead, run);
        bytes += run.length;
    }
}

/* The block there: its size, 0 when nothing says it. */
static size_t look_at_block(struct ahead *ahead, const uint8_t *bytes, size_t size,
                            const uint8_t *sync, struct avro_log_waste *waste)
{
    struct avro_log_run run = {0};
    struct avro_log_record first;
    uint64_t length = 0;
    bool has_header = avro_log_read_block_header(bytes, size, &run.count, &length);
    if (size <= OVERHEAD)
        return 0;
    const uint8_t *records = bytes + AVRO_LOG_BLOCK_HEADER_SIZE;
    if (!has_header || length == 0 || length > size - OVERHEAD ||
        memcmp(records + length, sync, AVRO_LOG_SYNC_SIZE) != 0) {
        note(ahead, measure(records, size - AVRO_LOG_BLOCK_HEADER_SIZE, waste));
        return 0;
    }
    if (read_record(records, length, &first, waste) > 0) {
        run.first_seq = (uint64_t)first.seq;
        note(ahead, run);
    }
    return length + OVERHEAD;
}

static void look_ahead(struct ahead *ahead, const uint8_t *bytes, size_t size, const uint8_t *sync,
                       struct avro_log_waste *waste)
{
    for (int i = 0; size > 0 && i < RUNS_MAX; i++) {
        size_t length = look_at_block(ahead, bytes, size, sync, waste);
        if (length == 0) {
            const uint8_t *next = memmem(bytes, size, sync, AVRO_LOG_SYNC_SIZE);
            length = next ? (size_t)(next - bytes) + AVRO_LOG_SYNC_SIZE : size;
        }
        bytes += length;
        size -= length;
    }
}

/* How many records can be taken of what lies ahead, with growing numbers, from this one on? */
static uint64_t most_from(const struct ahead *ahead, uint64_t least)
{
    uint64_t taken[RUNS_MAX], most = 0; /* taken: at most, up to the end of each run */
    for (int i = 0; i < ahead->count; i++) {
        const struct avro_log_run *run = &ahead->runs[i];
        const uint64_t end = run->first_seq + run->count;
        taken[i] = end <= least ? 0 : end - (run->first_seq > least ? run->first_seq : least);
        for (int j = 0; j < i && end > least; j++) {
            const uint64_t before = ahead->runs[j].first_seq + ahead->runs[j].count;
            if (taken[j] == 0 || before >= end)
                continue;
            uint64_t with = taken[j] + end - (run->first_seq > before ? run->first_seq : before);
            taken[i] = with > taken[i] ? with : taken[i];
        }
        most = taken[i] > most ? taken[i] : most;
    }
    return most;
}

static bool any_lower(const struct ahead *ahead, uint64_t seq)
{
    for (int i = 0; i < ahead->count; i++)
        if (ahead->runs[i].first_seq < seq)
            return true;
    return false;
}

bool avro_log_order_is_broken(const struct avro_log_order *order, struct avro_log_window *window,
                              struct avro_log_waste *waste, struct avro_log_run *ret)
{
    struct ahead ahead = {.least = order->least};
    size_t size, before = order->behind ? (size_t)(order->behind - order->at) : 0;
    if (waste->bytes > waste->most)
        return false;
    const uint8_t *bytes = avro_log_window_view(window, order->at, before + LOOKED_AT_MOST, &size);
    if (size > before + LOOKED_AT_MOST)
        size = before + LOOKED_AT_MOST;
    const size_t own = size < order->limit - order->at ? size : (size_t)(order->limit - order->at);
    *ret = measure(bytes, own, waste);
    if (ret->count == 0)
        return false;
    if (order->behind == 0)
        before = ret->length;
    else
        look_into_block(&ahead, bytes + ret->length, own - ret->length, waste);
    if (before < size)
        look_ahead(&ahead, bytes + before, size - before, order->sync, waste);
    if (!any_lower(&ahead, ret->first_seq))
        return false;
    waste->bytes += (uint64_t)ahead.count * (uint64_t)ahead.count;
    return most_from(&ahead, order->least) >
           ret->count + most_from(&ahead, ret->first_seq + ret->count);
}
