/* SPDX-License-Identifier: MIT */
/* Time since boot, as a type of its own so that it is never mixed up with wall-clock time.
 * Whoever decides by time gets the time handed in; only loops and tests ask the clock. */
#ifndef HOLDFAST_COMMON_MONOTONIC_H
#define HOLDFAST_COMMON_MONOTONIC_H

#include <stdint.h>
#include <time.h>

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

typedef struct {
    uint64_t ns; /* CLOCK_MONOTONIC */
} monotonic;

static inline uint64_t timespec_ns(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_nsec;
}

static inline monotonic monotonic_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (monotonic){timespec_ns(&now)};
}

/* Wall-clock time: nanoseconds since 1970-01-01 UTC. */
static inline uint64_t realtime_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return timespec_ns(&now);
}

static inline monotonic monotonic_add(monotonic from, uint64_t ns)
{
    return (monotonic){from.ns + ns};
}

/* Nanoseconds from earlier to later; 0 when the order is the other way round. */
static inline uint64_t monotonic_since(monotonic later, monotonic earlier)
{
    return later.ns > earlier.ns ? later.ns - earlier.ns : 0;
}

#endif
