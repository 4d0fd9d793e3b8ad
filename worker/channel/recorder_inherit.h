/* SPDX-License-Identifier: MIT */
/* What becomes of the segments that a recorder inherits. */
#ifndef HOLDFAST_WORKER_CHANNEL_RECORDER_INHERIT_H
#define HOLDFAST_WORKER_CHANNEL_RECORDER_INHERIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/channel_page.h"

struct segment;

enum inherited {
    INHERITED_CONTINUE,      /* the slot names it: go on at the committed position */
    INHERITED_BEGUN_ALREADY, /* the slot names the one after it, which is begun already: let go */
    INHERITED_UNUSED,        /* by the slot's numbers nothing in it was committed: to be begun */
    INHERITED_USED_UP,       /* holds committed records, and its worker gave it up: never to be
                                written again, the archive saves what is in it */
};

/* What a segment's file says about itself. */
struct inherited_file {
    bool unreadable;
    bool begun;         /* it has a header: */
    uint64_t first_seq; /* the number that it begins with */
    bool bare;          /* behind the header no record was ever written */
};

/* A pure function. `id` is the segment, `next_id` the one that was lent to follow it, 0 = none.
 * `file` counts only where the slot names neither. */
enum inherited recorder_inherit_judge(const struct commit_progress *committed, uint64_t id,
                                      uint64_t next_id, const struct inherited_file *file);

/* The same for an open file, which is read only if it counts: that may wait for a disk. */
enum inherited recorder_inherit_ask(const struct commit_progress *committed, uint64_t id,
                                    uint64_t next_id, int fd);

/* Can the committed position be in this file? The slot is the predecessor's word; the file's header
 * must agree. */
bool recorder_inherit_fits(const struct commit_progress *committed, const struct segment *segment);

#endif
