/* SPDX-License-Identifier: MIT */
/* Log files through the gate. */
#ifndef HOLDFAST_COMMON_CLIENT_LIVE_LOG_H
#define HOLDFAST_COMMON_CLIENT_LIVE_LOG_H

#include "common/client/live_request.h"

void live_log_describe(const struct read_segment_entry *entry, struct hf_log *ret);

/* hf_log_open() and hf_log_copy(), of a channel by its name. */
int live_log_lend(struct live *live, const char *channel, const struct log_name *name,
                  struct hf_log *ret);
/* hf_log_find(). */
int live_log_find(struct live *live, const char *channel, const struct log_name *name,
                  struct hf_log *ret);
int64_t live_log_send(struct live *live, const char *channel, const struct log_name *name,
                      const struct log_copy *copy);

#endif
