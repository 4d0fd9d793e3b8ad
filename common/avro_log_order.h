/* SPDX-License-Identifier: MIT */
/* Does a block belong where it is? */
#ifndef HOLDFAST_COMMON_AVRO_LOG_ORDER_H
#define HOLDFAST_COMMON_AVRO_LOG_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_format.h"

#define AVRO_LOG_ORDER_VIEW (128 * 1024) /* so much of what follows is looked at */

/* What lies behind a block that begins with number seq, where one from `least` on could: are there
 * more blocks that begin with numbers between the two than go on from seq before them? Then the
 * block is a copy of a later one, put here by a disk or a file system, and all of those would be
 * lost if it were believed. */
bool avro_log_order_is_broken(const uint8_t *behind, size_t size,
                              const uint8_t sync[AVRO_LOG_SYNC_SIZE], uint64_t least, uint64_t seq);

#endif
