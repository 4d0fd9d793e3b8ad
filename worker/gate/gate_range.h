/* SPDX-License-Identifier: MIT */
/* Records of a range, for the gate's threads: which files have them, and how far these may be read.
 */
#ifndef HOLDFAST_WORKER_GATE_RANGE_H
#define HOLDFAST_WORKER_GATE_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/client/log_range.h"
#include "common/read_protocol.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_pool.h"

/* That may be read at a time: each takes some 400 KiB of memory. */
#define GATE_RANGES_MOST 64

/* One that is looked for, or being sent. */
struct gate_range {
    struct gate_job job;        /* first; its end */
    struct gate_folder *folder; /* whoever has this keeps a reference */
    struct gate_view view;      /* what the channel's memory said before the thread began */
    struct log_range *log;
    bool is_counted;
};

/* Its folder is the channel's, and its view what the channel's memory says now. is_sent: it will be
 * as bytes, and counts. 0; -EBUSY: there are too many; -ENOMEM. */
int gate_range_new(struct gate *gate, const struct gate_channel *channel, bool is_sent,
                   struct gate_range **ret);

/* In a thread: the first record is found. 0; -ENOENT: there are no such records; -EAGAIN: they are
 * in a file that is being written, and nobody says how far it may be read; or another -errno. Does
 * *range anew, but for folder and view. */
int gate_range_begin(struct gate_range *range, const struct read_range *wanted);
/* In the main loop: a thread closes its file, which may wait for a disk. NULL is fine. */
void gate_range_free(struct gate *gate, struct gate_range **range);

/* In a thread: one file of it, as FDPASS asks for it, opened for this reader alone. As
 * gate_range_begin(). */
int gate_range_find_piece(const struct gate_range *range, const struct read_range *wanted,
                          struct read_range_lent *ret, int *ret_fd);

#endif
