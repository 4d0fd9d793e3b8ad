/* SPDX-License-Identifier: MIT */
/* Decides when a child that died starts again; asked for channels' workers, spares and the archive
 * alike. Pure: same arguments, same answer. Must never answer "now" twice in a row without a
 * healthy period between (no fork storm). */
#include "supervisor/policy/restart_policy.h"

#include <stdbool.h>

/* The backoff step of the n-th delayed restart, n from 0: first, 2 x first, 4 x first, ... capped.
 */
static uint64_t backoff_step(const struct restart_limits *limits, uint32_t doublings)
{
    uint64_t step = limits->first_delay_ns;
    while (doublings-- > 0 && step < limits->max_delay_ns)
        step = step > UINT64_MAX / 2 ? UINT64_MAX : step * 2;
    return step < limits->max_delay_ns ? step : limits->max_delay_ns;
}

struct restart_decision restart_policy_decide(const struct restart_limits *limits,
                                              const struct restart_history *history, monotonic now,
                                              uint32_t random)
{
    bool ran = history->started.ns != 0;
    bool healthy = ran && monotonic_since(now, history->started) >= limits->healthy_after_ns;
    uint32_t before = healthy ? 0 : history->deaths_in_a_row;
    struct restart_decision decision = {.deaths_in_a_row =
                                            before < UINT32_MAX ? before + 1 : before};

    if (limits->give_up_after > 0 && decision.deaths_in_a_row >= limits->give_up_after) {
        decision.verdict = RESTART_GIVE_UP;
    } else if (ran && before == 0) {
        decision.verdict = RESTART_NOW;
    } else {
        /* One that never came up gets no free attempt, so its delays begin one death earlier. */
        uint64_t half = backoff_step(limits, ran ? before - 1 : before) / 2;
        decision.verdict = RESTART_LATER;
        decision.delay_ns = half + (uint64_t)((unsigned __int128)half * random >> 32);
        if (decision.delay_ns == 0)
            decision.delay_ns = 1;
    }
    return decision;
}
