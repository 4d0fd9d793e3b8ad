/* SPDX-License-Identifier: MIT */
/* For the backends that encode into memory of their own and hand it to the kernel: an Avro log in
 * pieces of APPEND_STEP records, each piece whole sealed blocks. */
#ifndef HOLDFAST_TESTS_BENCH_APPEND_BLOCKS_H
#define HOLDFAST_TESTS_BENCH_APPEND_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "tests/bench/append.h"

#define APPEND_BLOCKS_ROOM                                                                         \
    (APPEND_STEP * (AVRO_LOG_RECORD_OVERHEAD + 128 + APPEND_PAYLOAD_MAX + AVRO_LOG_SYNC_SIZE +     \
                    AVRO_LOG_BLOCK_HEADER_SIZE))

/* Make the file, reserve its space on the disk as a segment has it, and write the header. Returns
 * the descriptor, *ret_offset says where the first piece goes. */
int append_blocks_begin(const struct append_job *job, uint64_t *ret_offset);

/* The next APPEND_STEP records; `to` has APPEND_BLOCKS_ROOM bytes. Returns how many they take. */
size_t append_blocks_next(struct append_job *job, uint8_t *to);

/* Cut the file to its length, and close it. */
void append_blocks_end(struct append_job *job, int *fd, uint64_t length);

#endif
