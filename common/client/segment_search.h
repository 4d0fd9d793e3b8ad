/* SPDX-License-Identifier: MIT */
/* Finds the block of a number or a time in a segment, by bisection over its sync markers. */
#ifndef HOLDFAST_COMMON_CLIENT_SEGMENT_SEARCH_H
#define HOLDFAST_COMMON_CLIENT_SEGMENT_SEARCH_H

#include <stdint.h>

#include "common/client/segment_slow.h"

struct segment_range {
    int fd;
    const uint8_t *sync;
    uint64_t first_block;
    uint64_t sealed_end; /* the last sealed block ends here, or before */
    uint64_t open_block; /* behind that, the block that has no header yet; UINT64_MAX: none */
    uint64_t end;        /* of that one's records */
};

enum segment_key { SEGMENT_BY_SEQ, SEGMENT_BY_TIME };

/* Where to walk on from, to the first record with this number or a higher one, or at this time or
 * later: it is in the block that is returned, or in one behind it. Where what was looked at shows
 * that numbers or times fall, that is the first block. 0 or -errno. */
int segment_search(const struct segment_range *range, enum segment_key key, uint64_t wanted,
                   struct segment_place *ret);

#endif
