/* SPDX-License-Identifier: MIT */
/* Where a segment isn't as the recorder writes it: what avro_log_scan() finds sound there. */
#ifndef HOLDFAST_COMMON_CLIENT_SEGMENT_SLOW_H
#define HOLDFAST_COMMON_CLIENT_SEGMENT_SLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_visitor.h"

/* Where the scan begins a block, and the number that is due there; 0 = as the header says. */
struct segment_place {
    uint64_t block;
    uint64_t due;
};

struct segment_found {
    uint64_t seq;
    uint64_t offset;
    uint32_t length;
    bool after_fault; /* something before it was not sound */
};

/* What is to be scanned. */
struct segment_stretch {
    int fd;
    struct segment_place from;
    uint64_t size_end; /* 0 = the file's */
    uint64_t seq_end;
    bool open;
    uint64_t floor; /* records below it are not wanted */
    size_t most;    /* once so many are found, a block's end will do */
};

struct segment_slow {
    struct segment_found *found;
    size_t count, room, next;
    struct segment_place then;     /* where to go on */
    bool at_end;                   /* nothing follows, for now: `then` has the last records */
    bool faults;                   /* something was not sound */
    bool fault_behind;             /* behind the last record */
    struct avro_log_effort effort; /* of all scans of this file */
};

/* Find sound records, up to where a block begins that looks as it should. *slow's array is used
 * again, and is free()d by the caller. 0 or -errno. */
int segment_slow_collect(struct segment_slow *slow, const struct segment_stretch *stretch);

#endif
