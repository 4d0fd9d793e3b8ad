/* SPDX-License-Identifier: MIT */
/* Log-linear buckets of fixed number. Called by the gate's main loop for each request, and by
 * whoever prints what it has counted. Must never allocate, nor trust that counts add up. */
#include "common/gate_histogram.h"

#define FIRST_NS 1024u /* a power of two near 1 us */
#define PARTS    4u    /* of each doubling */

const char *const gate_mode_names[GATE_MODE_COUNT] = {[GATE_MODE_FD] = "fd",
                                                      [GATE_MODE_COPY] = "copy",
                                                      [GATE_MODE_SPLICE] = "splice",
                                                      [GATE_MODE_OTHER] = "other"};

static unsigned bucket_of(uint64_t ns)
{
    if (ns < FIRST_NS)
        return 0;
    const unsigned doubling = 63u - (unsigned)__builtin_clzll(ns);
    const unsigned part = (unsigned)(ns >> (doubling - 2)) & (PARTS - 1);
    const unsigned bucket = 1 + (doubling - 10) * PARTS + part;
    return bucket < GATE_HISTOGRAM_BUCKETS ? bucket : GATE_HISTOGRAM_BUCKETS - 1;
}

void gate_histogram_add(struct gate_histogram *histogram, uint64_t ns)
{
    histogram->count++;
    histogram->sum_ns += ns;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
    histogram->bucket[bucket_of(ns)]++;
}

uint64_t gate_histogram_end_ns(unsigned bucket)
{
    if (bucket == 0)
        return FIRST_NS;
    if (bucket >= GATE_HISTOGRAM_BUCKETS - 1)
        return UINT64_MAX;
    const unsigned doubling = (bucket - 1) / PARTS, part = (bucket - 1) % PARTS;
    return (uint64_t)FIRST_NS / PARTS * (PARTS + part + 1) << doubling;
}

uint64_t gate_histogram_quantile(const struct gate_histogram *histogram, uint32_t ppm)
{
    uint64_t total = 0, below = 0;
    for (unsigned i = 0; i < GATE_HISTOGRAM_BUCKETS; i++)
        total += histogram->bucket[i];
    for (unsigned i = 0; i < GATE_HISTOGRAM_BUCKETS && total > 0; i++) {
        const uint64_t end = gate_histogram_end_ns(i);
        below += histogram->bucket[i];
        if ((double)below * 1e6 >= (double)total * ppm && histogram->bucket[i])
            return end < histogram->max_ns ? end : histogram->max_ns;
    }
    return 0;
}
