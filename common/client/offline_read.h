/* SPDX-License-Identifier: MIT */
/* Readers of files. */
#ifndef HOLDFAST_COMMON_CLIENT_OFFLINE_READ_H
#define HOLDFAST_COMMON_CLIENT_OFFLINE_READ_H

#include "common/client/client.h"
#include "common/client/offline_files.h"

/* A handle of files. */
struct offline {
    struct hf base;
    struct offline_set set;
};

/* As in struct handle_kind. The channel must live as long as the reader. */
int offline_read(const struct offline_channel *channel, const struct hf_start *start, unsigned mode,
                 hf_reader **ret);

/* Behind the last record of the channel; where that can't be found out, as far as names and headers
 * tell. May read some 100 KiB. */
uint64_t offline_find_end(const struct offline_channel *channel);

#endif
