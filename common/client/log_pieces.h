/* SPDX-License-Identifier: MIT */
/* What both kinds of handles do for ranges of records. */
#ifndef HOLDFAST_COMMON_CLIENT_LOG_PIECES_H
#define HOLDFAST_COMMON_CLIENT_LOG_PIECES_H

#include <stddef.h>

#include "common/client/client.h"
#include "common/client/log_range.h"

/* A list that grows; the piece's descriptor is taken over in any case. 0 or -ENOMEM. */
int log_pieces_add(struct hf_log_piece **list, size_t *count, const struct hf_log_piece *piece);
/* With its descriptors. */
void log_pieces_free(struct hf_log_piece **list, size_t count);

/* Write the records of LOG_RANGE as one log file to a descriptor. How many bytes, or -errno. */
int64_t log_pieces_copy(const struct log_range_source *source, const struct log_name *name, int to,
                        struct hf_log_range *ret);

#endif
