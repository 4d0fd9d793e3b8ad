/* SPDX-License-Identifier: MIT */
/* How long requests took: counts per range of time. Each doubling from 1 us on is divided into four
 * ranges, so that a quantile is at most a quarter too long; histograms of several gates add up. */
#ifndef HOLDFAST_COMMON_GATE_HISTOGRAM_H
#define HOLDFAST_COMMON_GATE_HISTOGRAM_H

#include <stdint.h>

/* Below 1 us, 27 doublings from there, and everything above: 134 s. */
#define GATE_HISTOGRAM_BUCKETS (1 + 27 * 4 + 1)

struct gate_histogram {
    uint64_t count, sum_ns, max_ns;
    uint64_t bucket[GATE_HISTOGRAM_BUCKETS];
};

/* What is told apart, because it costs differently. */
enum gate_mode { GATE_MODE_FD, GATE_MODE_COPY, GATE_MODE_SPLICE, GATE_MODE_OTHER, GATE_MODE_COUNT };

extern const char *const gate_mode_names[GATE_MODE_COUNT];

void gate_histogram_add(struct gate_histogram *histogram, uint64_t ns);

/* What is in this bucket is shorter than that; UINT64_MAX: the last one, which has no end. */
uint64_t gate_histogram_end_ns(unsigned bucket);

/* So many of a million were not longer than this; 0 where nothing was counted. */
uint64_t gate_histogram_quantile(const struct gate_histogram *histogram, uint32_t ppm);

#endif
