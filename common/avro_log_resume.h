/* SPDX-License-Identifier: MIT */
/* Where a scan came to the end of a file that is being written. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_RESUME_H
#define HOLDFAST_COMMON_AVRO_LOG_RESUME_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "common/avro_log_summary.h"
#include "common/avro_log_window.h"

struct avro_log_resume {
    uint64_t at;
    bool in_block; /* behind the last sound record of this block, which is being walked: */
    struct avro_log_block block;
    uint64_t expected_seq;
    bool exact;
};

/* Something sound was found behind it, which is written last. Is there by now what was not complete
 * when the window was filled? Else it is damage. */
bool avro_log_resume_is_possible(const struct avro_log_resume *resume,
                                 const struct avro_log_window *window,
                                 const uint8_t sync[AVRO_LOG_SYNC_SIZE]);

#endif
