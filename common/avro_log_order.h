/* SPDX-License-Identifier: MIT */
/* Do records belong where they are? */
#ifndef HOLDFAST_COMMON_AVRO_LOG_ORDER_H
#define HOLDFAST_COMMON_AVRO_LOG_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "common/avro_log_guess.h"
#include "common/avro_log_window.h"

/* A sound record at `at`, and those that go on from it. */
struct avro_log_order {
    uint64_t at, limit; /* they end before limit */
    uint64_t behind;    /* the next block is there; 0: the next marker says where */
    const uint8_t *sync;
    uint64_t least; /* a record with this number could be there; */
};

/* Records one after the other, in the file and by their numbers. */
struct avro_log_run {
    uint64_t first_seq, count;
    uint64_t length; /* bytes */
};

/* and one with a higher number is. Can more records be taken, in the order of their numbers, when
 * it and those that go on from it are not? Then they are copies of later ones, put here by a disk
 * or a file system, and what lies between would be lost if they were believed. *ret is what to pass
 * over then. */
bool avro_log_order_is_broken(const struct avro_log_order *order, struct avro_log_window *window,
                              struct avro_log_waste *waste, struct avro_log_run *ret);

#endif
