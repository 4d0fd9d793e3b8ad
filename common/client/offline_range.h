/* SPDX-License-Identifier: MIT */
/* Ranges of records from files, without a daemon. */
#ifndef HOLDFAST_COMMON_CLIENT_OFFLINE_RANGE_H
#define HOLDFAST_COMMON_CLIENT_OFFLINE_RANGE_H

#include "common/client/client.h"
#include "common/client/offline_files.h"

/* hf_log_pieces() but for what hf_log_list() says of the files: only names and descriptors. */
int offline_range_pieces(const struct offline_channel *channel, const struct log_name *name,
                         struct hf_log_piece **ret, size_t *ret_count);
/* hf_log_copy(). */
int64_t offline_range_copy(const struct offline_channel *channel, const struct log_name *name,
                           int to, struct hf_log_range *ret);

#endif
