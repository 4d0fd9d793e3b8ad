/* SPDX-License-Identifier: MIT */
/* The restart policy with a memory, a clock and jitter: one of these for whatever is started again.
 */
#ifndef HOLDFAST_SUPERVISOR_CHILD_RESTART_H
#define HOLDFAST_SUPERVISOR_CHILD_RESTART_H

#include "common/monotonic.h"
#include "supervisor/policy/restart_policy.h"

struct restart {
    uint32_t deaths_in_a_row;
    uint32_t fruitless;      /* of these, the newest ones without progress */
    monotonic launched;      /* to get its work; ns = 0: not since the last decision */
    monotonic running_since; /* ns = 0: it has not run since the last decision */
    enum restart_rule rule;  /* of the last decision */
};

/* What the one that died leaves. */
struct restart_circumstances {
    bool progress;            /* as in restart_history */
    uint64_t stall_budget_ns; /* RESTART_NO_STALL: nothing waits for it */
    uint64_t share_wait_ns;
};

/* A new beginning: what was before doesn't count. */
void restart_forget(struct restart *restart);

/* It has died, or could not be started: what now? Remembers the death. */
struct restart_decision restart_decide(struct restart *restart, const struct restart_limits *limits,
                                       const struct restart_circumstances *circumstances);

/* For what is never given up, and for which nothing queues: the delay until the next attempt, 0 for
 * at once. */
uint64_t restart_delay(struct restart *restart, const struct restart_limits *limits);

#endif
