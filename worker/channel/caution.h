/* SPDX-License-Identifier: MIT */
/* How far a consumer may go in one step, after its predecessors died of what they read (poison
 * datagrams). takeover.c judges, relay, recorder and decimator obey. */
#ifndef HOLDFAST_WORKER_CHANNEL_CAUTION_H
#define HOLDFAST_WORKER_CHANNEL_CAUTION_H

#include <stdbool.h>
#include <stdint.h>

struct caution {
    bool active;
    uint64_t until; /* one datagram at a time up to here */
};

/* The end of the step that a consumer may take from `from` to at most `to`. */
static inline uint64_t caution_limit(const struct caution *caution, uint64_t from, uint64_t to)
{
    return caution->active && from < caution->until && to > from + 1 ? from + 1 : to;
}

#endif
