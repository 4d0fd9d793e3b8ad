/* SPDX-License-Identifier: MIT */
/* When does a child that died start again? A pure function of its history, the cause and the time:
 * no clock, no state of its own, no side effects. */
#ifndef HOLDFAST_SUPERVISOR_POLICY_RESTART_POLICY_H
#define HOLDFAST_SUPERVISOR_POLICY_RESTART_POLICY_H

#include <stdint.h>

#include "common/monotonic.h"

struct restart_limits {
    uint64_t healthy_after_ns; /* running this long forgives earlier deaths; default 10 s */
    uint64_t first_delay_ns;   /* default 10 ms, doubled with every further death */
    uint64_t max_delay_ns;     /* default 10 s */
    uint32_t give_up_after;    /* deaths in a row; 0 = never */
};

struct restart_history {
    uint32_t deaths_in_a_row; /* since the last healthy period, before this one */
    monotonic started;        /* when the one that died became RUNNING; ns = 0: it never did */
};

enum restart_verdict {
    RESTART_NOW,
    RESTART_LATER,
    RESTART_GIVE_UP,
};

struct restart_decision {
    enum restart_verdict verdict;
    uint64_t delay_ns;        /* RESTART_LATER: between half of and the whole backoff step */
    uint32_t deaths_in_a_row; /* to be kept for the next decision */
};

/* random: 32 random bits, for the jitter. */
struct restart_decision restart_policy_decide(const struct restart_limits *limits,
                                              const struct restart_history *history, monotonic now,
                                              uint32_t random);

#endif
