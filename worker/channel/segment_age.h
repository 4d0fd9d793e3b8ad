/* SPDX-License-Identifier: MIT */
/* How old the segment that is being written is, whatever the wall clock is set to meanwhile. */
#ifndef HOLDFAST_WORKER_CHANNEL_SEGMENT_AGE_H
#define HOLDFAST_WORKER_CHANNEL_SEGMENT_AGE_H

#include <stdint.h>

#include "common/monotonic.h"

struct segment_age {
    monotonic begun;
};

void segment_age_begin(struct segment_age *age, monotonic now);

/* It was begun by an earlier worker: only the wall clock's time of that is known. A clock that was
 * set back before that time since tells nothing: it counts as new. */
void segment_age_inherit(struct segment_age *age, monotonic now, uint64_t now_ns,
                         uint64_t created_ns);

/* In nanoseconds. */
uint64_t segment_age_at(const struct segment_age *age, monotonic now);

/* How long until it is half of time_ns old, or all of it; 0 when it is older. */
uint64_t segment_age_wait(const struct segment_age *age, monotonic now, uint64_t time_ns);

/* How long to sleep for that, where nothing else is to be done. One that is older waits for another
 * segment. */
uint64_t segment_age_nap(const struct segment_age *age, monotonic now, uint64_t time_ns);

#endif
