/* SPDX-License-Identifier: MIT */
/* The restart policy with a memory, a clock and jitter: one of these for whatever is started again.
 */
#ifndef HOLDFAST_SUPERVISOR_CHILD_RESTART_H
#define HOLDFAST_SUPERVISOR_CHILD_RESTART_H

#include "common/monotonic.h"
#include "supervisor/policy/restart_policy.h"

struct restart {
    uint32_t deaths_in_a_row;
    monotonic running_since; /* ns = 0: it has not run since the last decision */
};

/* It has died, or could not be started: what now? Remembers the death. */
struct restart_decision restart_decide(struct restart *restart,
                                       const struct restart_limits *limits);

/* For what is never given up: the delay until the next attempt, 0 for at once. */
uint64_t restart_delay(struct restart *restart, const struct restart_limits *limits);

#endif
