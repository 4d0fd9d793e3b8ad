/* SPDX-License-Identifier: MIT */
#include "tests/lib/log_reading.h"

#include <check.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_copy.h"

const struct avro_log_scan_options log_reading_sealed = {.open = false, .seq_end = UINT64_MAX};
const struct avro_log_scan_options log_reading_open = {.open = true, .seq_end = UINT64_MAX};

void log_reading_make(struct log_maker *maker, int blocks, int per_block, bool leave_open)
{
    log_maker_begin(maker, 256 * 1024, "engine", LOG_READING_FIRST, LOG_READING_SEED);
    maker->payload_max = 60;
    for (int block = 0; block < blocks; block++) {
        for (int i = 0; i < per_block; i++)
            ck_assert(log_maker_append(maker));
        if (block < blocks - 1 || !leave_open)
            log_maker_seal(maker);
    }
}

static int see_record(void *context, const struct avro_log_found *found)
{
    struct log_reading *reading = context;
    uint64_t seq = (uint64_t)found->record.seq;
    /* No ck_assert() where nothing is wrong: each one is a write to Check's pipe, and there are
     * many records. */
    if (seq >= LOG_READING_MAX || !log_maker_is_genuine(reading->maker, &found->record))
        ck_abort_msg("a wrong record %llu", (unsigned long long)seq);
    if (reading->seen[seq])
        ck_abort_msg("record %llu came twice", (unsigned long long)seq);
    reading->seen[seq] = true;
    return 0;
}

static int see_gap(void *context, uint64_t first, uint64_t end)
{
    ck_assert_uint_lt(first, end);
    ((struct log_reading *)context)->gap_numbers += end - first;
    return 0;
}

static int see_fault(void *context, uint64_t offset, const char *what)
{
    (void)offset;
    ck_assert_str_ne(what, "");
    ((struct log_reading *)context)->faults++;
    return 0;
}

void log_reading_scan(int fd, const struct log_maker *maker,
                      const struct avro_log_scan_options *options, struct log_reading *ret)
{
    const struct avro_log_visitor visitor = {ret, see_record, see_gap, see_fault};
    memset(ret, 0, sizeof *ret);
    ret->maker = maker;
    ck_assert_int_eq(avro_log_scan(fd, options, &visitor, &ret->summary), 0);
    ck_assert_uint_eq(ret->faults, ret->summary.faults);
    ck_assert_uint_eq(ret->gap_numbers, ret->summary.missing);
}

void log_reading_scan_bytes(const struct log_maker *maker, size_t size,
                            const struct avro_log_scan_options *options, struct log_reading *ret)
{
    int fd = log_maker_memfd(maker->bytes, size);
    log_reading_scan(fd, maker, options, ret);
    close(fd);
}

void log_reading_expect(const struct log_reading *reading, uint64_t first, uint64_t end)
{
    for (uint64_t seq = first; seq < end; seq++)
        if (!reading->seen[seq])
            ck_abort_msg("record %llu did not come back", (unsigned long long)seq);
}

void log_reading_check_copy(const struct log_maker *maker, int fd,
                            const struct avro_log_scan_options *options,
                            const struct log_reading *original)
{
    static struct log_reading again;
    struct avro_log_summary summary;
    struct avro_log_copy copy = {.from_fd = fd, .options = *options, .channel = "engine"};
    copy.to_fd = log_maker_memfd("", 0);
    ck_assert_int_eq(avro_log_copy(&copy, &summary), 0);
    ck_assert_uint_eq(summary.records, original->summary.records);
    if (summary.records > 0) {
        log_reading_scan(copy.to_fd, maker, &log_reading_sealed, &again);
        ck_assert_msg(again.summary.faults == 0, "the copy is damaged: %s",
                      again.summary.fault_what);
        ck_assert_mem_eq(again.seen, original->seen, sizeof again.seen);
    }
    close(copy.to_fd);
}
