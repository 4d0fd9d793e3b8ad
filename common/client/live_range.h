/* SPDX-License-Identifier: MIT */
/* Ranges of records through the gate. */
#ifndef HOLDFAST_COMMON_CLIENT_LIVE_RANGE_H
#define HOLDFAST_COMMON_CLIENT_LIVE_RANGE_H

#include "common/client/live_request.h"

/* hf_log_pieces() and hf_log_copy(), of a channel by its name. */
int live_range_pieces(struct live *live, const char *channel, const struct log_name *name,
                      struct hf_log_piece **ret, size_t *ret_count);
int64_t live_range_send(struct live *live, const char *channel, const struct log_name *name,
                        const struct log_copy *copy);

#endif
