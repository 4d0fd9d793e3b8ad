/* SPDX-License-Identifier: MIT */
/* Where in a log file the blocks are that have a range's records. */
#ifndef HOLDFAST_COMMON_CLIENT_LOG_PIECE_H
#define HOLDFAST_COMMON_CLIENT_LOG_PIECE_H

#include <stdint.h>

#include "common/client/log_range.h"

/* Whole finished blocks: their neighbours' records come along. */
struct log_piece {
    uint64_t header_length; /* bytes of the file's header, at its beginning */
    uint64_t offset, length;
    uint64_t first_seq, last_seq; /* of these blocks, the neighbours included */
};

/* Of [first, last], in this file. Where blocks are damaged, they are taken along; an unfinished one
 * ends there. 0; -ENOENT: it has none of these; -EBADMSG: it is no log file; or another -errno. */
int log_piece_find(const struct log_range_file *file, uint64_t first, uint64_t last,
                   struct log_piece *ret);

#endif
