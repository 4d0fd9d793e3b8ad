/* SPDX-License-Identifier: MIT */
/* How far a log file goes: questions that are answered without reading all of it. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_END_H
#define HOLDFAST_COMMON_AVRO_LOG_END_H

#include <stdint.h>

#include "common/avro_log_scan.h"

/* Is there nothing but zeros in it, as in a segment that was made and not begun? 1, 0 or -errno. */
int avro_log_is_blank(int fd);

/* A sealed file's last two blocks, and with them last_seq; all of the file where they are not
 * sound. *ret is of what was read: records is 0 when there is no sound one, faults when it is
 * damaged. 0 or -errno. */
int avro_log_look_at_end(int fd, struct avro_log_summary *ret);

#endif
