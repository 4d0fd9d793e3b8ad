/* SPDX-License-Identifier: MIT */
/* How late things were, as a distribution of fixed size. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_LATENESS_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_LATENESS_H

#include <stdint.h>

#define CTL_LATENESS_BUCKETS (61 * 16)

struct ctl_lateness {
    uint64_t buckets[CTL_LATENESS_BUCKETS]; /* each within 1/16 of its value */
    uint64_t count;
    uint64_t most_ns;
};

void ctl_lateness_add(struct ctl_lateness *lateness, uint64_t ns);
/* So many in a thousand are no later than this; 0 when there are none. */
uint64_t ctl_lateness_quantile(const struct ctl_lateness *lateness, unsigned per_mille);

#endif
