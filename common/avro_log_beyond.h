/* SPDX-License-Identifier: MIT */
/* Where the records of a block go on behind damage. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_BEYOND_H
#define HOLDFAST_COMMON_AVRO_LOG_BEYOND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_guess.h"
#include "common/avro_log_window.h"

/* No sound record is at `at`; the block's others end before `limit`, or before a marker. */
struct avro_log_beyond {
    uint64_t at, limit;
    uint64_t due; /* this number should be there; the least it may be, where a block begins: */
    bool exact;
    bool sealed; /* the block's marker is at `limit` */
    /* Also what lies in a payload, if the unsound record is what it seems to be. It is no record
     * then, but something was written there. */
    bool in_payload;
    const uint8_t *sync;
};

/* The next sound record there whose number is possible at its place: records behind the unsound
 * one have higher numbers, and in between is room for so many only. */
bool avro_log_find_beyond(const struct avro_log_beyond *beyond, struct avro_log_window *window,
                          struct avro_log_waste *waste, uint64_t *ret_at, uint64_t *ret_seq);

#endif
