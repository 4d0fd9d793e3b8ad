/* SPDX-License-Identifier: MIT */
/* Does a block belong where it is? */
#ifndef HOLDFAST_COMMON_AVRO_LOG_ORDER_H
#define HOLDFAST_COMMON_AVRO_LOG_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "common/avro_log_guess.h"
#include "common/avro_log_window.h"

/* A block with a header of its own at `offset`. */
struct avro_log_order {
    uint64_t offset, limit; /* its records end before limit */
    uint64_t behind;        /* where what follows is looked at */
    const uint8_t *sync;
    uint64_t least; /* a block from this number on could begin here; */
};

/* and one that is higher does. Are there more records with numbers between the two behind it than
 * go on from it before them? Then it is a copy of a later one, put here by a disk or a file system,
 * and all of those would be lost if it were believed. */
bool avro_log_order_is_broken(const struct avro_log_order *order, struct avro_log_window *window,
                              struct avro_log_waste *waste);

#endif
