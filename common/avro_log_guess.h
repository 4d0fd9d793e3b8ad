/* SPDX-License-Identifier: MIT */
/* The sync marker of a log file whose header is lost. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_GUESS_H
#define HOLDFAST_COMMON_AVRO_LOG_GUESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "common/avro_log_window.h"

/* What looks like a record at a place where one may begin costs a CRC over up to 64 KiB. In a file
 * that was made so, there is such a place every few bytes; no accident leaves more than a few. */
struct avro_log_waste {
    uint64_t bytes; /* of what looked like a record and was none */
    uint64_t most;  /* beyond it, nothing is tried any more */
};

/* `most` for a file of this size. */
uint64_t avro_log_waste_most(uint64_t file_size);

/* open: it was being written, so what it ends with says nothing. Returns where the first block
 * behind such a marker begins, or 0. */
uint64_t avro_log_guess_sync(struct avro_log_window *window, bool open,
                             struct avro_log_waste *waste, uint8_t ret_sync[AVRO_LOG_SYNC_SIZE]);

#endif
