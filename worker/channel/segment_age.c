/* SPDX-License-Identifier: MIT */
/* Called by the recorder, with the times handed in. Must never decide by the wall clock but where a
 * segment is inherited. */
#include "worker/channel/segment_age.h"

#define LONGEST_NAP_NS (30 * NS_PER_S)

void segment_age_begin(struct segment_age *age, monotonic now)
{
    age->begun = now;
}

void segment_age_inherit(struct segment_age *age, monotonic now, uint64_t now_ns,
                         uint64_t created_ns)
{
    uint64_t passed = now_ns > created_ns ? now_ns - created_ns : 0;
    age->begun.ns = now.ns > passed ? now.ns - passed : 0; /* older than this boot is old enough */
}

uint64_t segment_age_at(const struct segment_age *age, monotonic now)
{
    return monotonic_since(now, age->begun);
}

uint64_t segment_age_wait(const struct segment_age *age, monotonic now, uint64_t time_ns)
{
    uint64_t passed = segment_age_at(age, now);
    return passed < time_ns / 2 ? time_ns / 2 - passed : passed < time_ns ? time_ns - passed : 0;
}

uint64_t segment_age_nap(const struct segment_age *age, monotonic now, uint64_t time_ns)
{
    uint64_t wait = segment_age_wait(age, now, time_ns);
    wait = wait > 0 ? wait : NS_PER_S;
    return wait < LONGEST_NAP_NS ? wait + NS_PER_MS : LONGEST_NAP_NS;
}
