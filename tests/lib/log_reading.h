/* SPDX-License-Identifier: MIT */
/* What a scan of a log file by log_maker gives. Whatever the damage, no record may come back that
 * was not written, and none twice. */
#ifndef HOLDFAST_TESTS_LIB_LOG_READING_H
#define HOLDFAST_TESTS_LIB_LOG_READING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_scan.h"
#include "tests/lib/log_maker.h"

#define LOG_READING_SEED  4711
#define LOG_READING_FIRST 100 /* of the files that log_reading_make() makes */
#define LOG_READING_MAX   4096

extern const struct avro_log_scan_options log_reading_sealed, log_reading_open;

struct log_reading {
    const struct log_maker *maker;
    struct avro_log_summary summary;
    bool seen[LOG_READING_MAX];
    uint64_t gap_numbers;
    uint64_t faults;
};

/* blocks of `per_block` records each; all sealed but, with `leave_open`, the last one */
void log_reading_make(struct log_maker *maker, int blocks, int per_block, bool leave_open);

void log_reading_scan(int fd, const struct log_maker *maker,
                      const struct avro_log_scan_options *options, struct log_reading *ret);
/* The maker's first `size` bytes. */
void log_reading_scan_bytes(const struct log_maker *maker, size_t size,
                            const struct avro_log_scan_options *options, struct log_reading *ret);

/* Records [first, end) came back. */
void log_reading_expect(const struct log_reading *reading, uint64_t first, uint64_t end);

/* Copy what is sound; the copy must be sealed, without fault, and hold the same records. */
void log_reading_check_copy(const struct log_maker *maker, int fd,
                            const struct avro_log_scan_options *options,
                            const struct log_reading *original);

#endif
