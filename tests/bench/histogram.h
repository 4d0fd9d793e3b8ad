/* SPDX-License-Identifier: MIT */
/* Counts of durations in log-linear buckets: exact below 128 ns, within 0.8 % above. */
#ifndef HOLDFAST_TESTS_BENCH_HISTOGRAM_H
#define HOLDFAST_TESTS_BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_FINE    7 /* bits of resolution */
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_FINE + 1) << HISTOGRAM_FINE)

struct histogram {
    uint64_t total;
    uint64_t highest;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

static inline uint32_t histogram_index(uint64_t value)
{
    if (value < 1u << HISTOGRAM_FINE)
        return (uint32_t)value;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - HISTOGRAM_FINE;
    return ((shift + 1) << HISTOGRAM_FINE) + (uint32_t)(value >> shift) - (1u << HISTOGRAM_FINE);
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->counts[histogram_index(value)]++;
    histogram->total++;
    if (value > histogram->highest)
        histogram->highest = value;
}

/* The lowest value of a bucket. */
static inline uint64_t histogram_value(uint32_t index)
{
    uint32_t shift = index >> HISTOGRAM_FINE;
    uint64_t fine = index & ((1u << HISTOGRAM_FINE) - 1);
    return shift == 0 ? fine : (fine | 1u << HISTOGRAM_FINE) << (shift - 1);
}

/* "[[value, count], ...]" of the buckets that hold anything. */
static inline void histogram_print(const struct histogram *histogram, FILE *to)
{
    const char *between = "[";
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram->counts[i] == 0)
            continue;
        fprintf(to, "%s[%llu, %llu]", between, (unsigned long long)histogram_value(i),
                (unsigned long long)histogram->counts[i]);
        between = ", ";
    }
    fprintf(to, "%s]", histogram->total ? "" : "[");
}

#endif
