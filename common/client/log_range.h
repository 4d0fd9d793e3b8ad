/* SPDX-License-Identifier: MIT */
/* The records of a range, from as many log files as have them, as one log file. */
#ifndef HOLDFAST_COMMON_CLIENT_LOG_RANGE_H
#define HOLDFAST_COMMON_CLIENT_LOG_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/client/segment_walk.h"

/* One file, as far as it may be read. */
struct log_range_file {
    int fd;             /* the range's from then on */
    bool is_unfinished; /* nobody writes it, and it was never sealed */
    uint64_t first_seq; /* by its name */
    struct segment_limit limit;
};

/* Where files come from. */
struct log_range_source {
    /* The last one that begins at or before seq, else the first one; behind: the next one, seq is
     * where the one before begins. It comes to an end. 0, -ENOENT: there is none; or another
     * -errno. */
    int (*open)(void *context, bool behind, uint64_t seq, struct log_range_file *ret);
    void *context;
};

/* What there was. */
struct log_range_told {
    uint64_t first_seq, last_seq; /* the first and the last one that it has */
    uint64_t records;
};

struct log_range;

/* Records [first, last]. The source is used until the range is closed. 0; -ENOENT: there is no
 * such record; or another -errno. */
int log_range_open(const struct log_range_source *source, uint64_t first, uint64_t last,
                   struct log_range **ret);
/* NULL is fine. Returns NULL. */
struct log_range *log_range_close(struct log_range *range);

/* The next bytes of it, valid until the next call: how many, 0 at the end; -ESTALE: a file was
 * removed meanwhile; or another -errno. */
long log_range_read(struct log_range *range, const uint8_t **ret);

/* So far; at the end, all of it. */
const struct log_range_told *log_range_so_far(const struct log_range *range);

#endif
