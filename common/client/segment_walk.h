/* SPDX-License-Identifier: MIT */
/* One segment file read forward, record by record: fast while it is as the recorder writes it, and
 * through avro_log_scan() where it isn't. It reads with pread(2) into memory of its own, so nothing
 * that happens to the file is a fault. The same for files that are finished and for one that is
 * being written, whose limits the caller knows. */
#ifndef HOLDFAST_COMMON_CLIENT_SEGMENT_WALK_H
#define HOLDFAST_COMMON_CLIENT_SEGMENT_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"

/* How far there is something to read, as the commit slot says of the segment that is being written.
 * Of a finished one: end = UINT64_MAX (the file's size), open_block = UINT64_MAX. */
struct segment_limit {
    uint64_t end;        /* the first byte that is not committed */
    uint64_t open_block; /* offset of the block that has no header yet */
    uint64_t seq_end;    /* records from here on are another file's; UINT64_MAX = none are */
};

struct segment_walk;

enum segment_walk_result {
    WALK_END = 0, /* the limit, or the file's end: may be more later, with another limit */
    WALK_RECORD = 1,
};

/* fd is taken over in any case. unfinished: nobody writes it, and it was never sealed: what is
 * sound at its end is found out. 0; -EBADMSG: not a log file, see *ret_what; or -errno. */
int segment_walk_open(int fd, bool unfinished, struct segment_walk **ret, const char **ret_what);
struct segment_walk *segment_walk_close(struct segment_walk *walk);

const struct avro_log_identity *segment_walk_identity(const struct segment_walk *walk);
/* Only ever further than before, but for seq_end. */
void segment_walk_set_limit(struct segment_walk *walk, const struct segment_limit *limit);

/* The next sound record with a number of next_seq or more: enum segment_walk_result or -errno.
 * What is damaged is passed over, and seen by the numbers; *ret points into the walk's memory,
 * valid until the next call. */
int segment_walk_next(struct segment_walk *walk, uint64_t next_seq, struct avro_log_record *ret);

/* Be at the first record with this number or a higher one, or received at this time or later: found
 * by bisection over the sync markers, then block by block. 0 or -errno. */
int segment_walk_seek_seq(struct segment_walk *walk, uint64_t seq);
int segment_walk_seek_time(struct segment_walk *walk, int64_t time_ns);

/* Be at the last record whose number is below `end`. 1 and its number, 0 when there is none, or
 * -errno. */
int segment_walk_seek_last(struct segment_walk *walk, uint64_t end, uint64_t *ret_seq);

/* Was something that was not sound passed over just before the record that was returned, or, after
 * WALK_END, behind the last one? */
bool segment_walk_passed_damage(const struct segment_walk *walk);
/* Behind the last record, as the header says; 0: it doesn't say, or there is none. */
uint64_t segment_walk_end_by_header(const struct segment_walk *walk);
/* Did walking the segment so far pass over something that was not sound? */
bool segment_walk_was_damaged(const struct segment_walk *walk);
/* Is the file shorter now than its limit says that it was? */
bool segment_walk_is_cut_off(const struct segment_walk *walk);

#endif
