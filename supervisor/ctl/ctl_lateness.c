/* SPDX-License-Identifier: MIT */
/* A histogram whose buckets grow with their value. Called by replay for each datagram: adding is a
 * few instructions, and needs no memory of its own. */
#include "supervisor/ctl/ctl_lateness.h"

#include <stddef.h>

/* Below 16 each value has a bucket; above, each power of two has 16. */
static size_t bucket_of(uint64_t ns)
{
    if (ns < 16)
        return ns;
    const unsigned power = 63 - (unsigned)__builtin_clzll(ns);
    return (power - 3) * 16 + (ns >> (power - 4) & 15);
}

/* The largest value that falls into it. */
static uint64_t end_of(size_t bucket)
{
    if (bucket < 16)
        return bucket;
    const unsigned power = (unsigned)(bucket / 16) + 3;
    return ((uint64_t)(16 + bucket % 16) << (power - 4)) + ((1ull << (power - 4)) - 1);
}

void ctl_lateness_add(struct ctl_lateness *lateness, uint64_t ns)
{
    lateness->buckets[bucket_of(ns)]++;
    lateness->count++;
    lateness->most_ns = ns > lateness->most_ns ? ns : lateness->most_ns;
}

uint64_t ctl_lateness_quantile(const struct ctl_lateness *lateness, unsigned per_mille)
{
    const uint64_t wanted = (lateness->count * per_mille + 999) / 1000;
    uint64_t sum = 0;
    for (size_t i = 0; i < CTL_LATENESS_BUCKETS; i++) {
        sum += lateness->buckets[i];
        if (sum >= wanted && sum > 0)
            return end_of(i) < lateness->most_ns ? end_of(i) : lateness->most_ns;
    }
    return lateness->most_ns;
}
