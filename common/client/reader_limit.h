/* SPDX-License-Identifier: MIT */
/* How far a reader may read a segment. */
#ifndef HOLDFAST_COMMON_CLIENT_READER_LIMIT_H
#define HOLDFAST_COMMON_CLIENT_READER_LIMIT_H

#include "common/client/live_state.h"

enum limit_kind {
    LIMIT_UNKNOWN,
    LIMIT_COMMIT,   /* it is being written */
    LIMIT_FINISHED, /* nothing more comes */
    LIMIT_BOUNDED,  /* likewise, and what is sound at its end is to be found out */
};

/* Of the file with this inode number (0: one that can't be read), which the gate says that of.
 * patient: it was waited for long enough that somebody says more. */
enum limit_kind reader_limit_find(const struct live_ring *ring, uint64_t id,
                                  const struct read_found *found, bool patient,
                                  struct segment_limit *ret);

#endif
