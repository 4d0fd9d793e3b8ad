/* SPDX-License-Identifier: MIT */
/* Decides when a child that died starts again; asked for channels' workers, spares and the archive
 * alike. Pure: same arguments, same answer. Must never lead to a fork storm: launches lie
 * RESTART_APART_NS apart, and what makes no progress waits longer each time. */
#include "supervisor/policy/restart_policy.h"

#include <stdbool.h>

#define SHARE_BURST_LEAST 20 /* launches */
#define READY_LEAST_NS    (250 * NS_PER_MS)
#define READY_MOST_NS     (5 * NS_PER_S)
#define READY_EACH_NS     (5 * NS_PER_MS) /* one starts in one to two, others before it */

const char *const restart_rule_names[RESTART_RULE_COUNT] = {
    [RESTART_RULE_NONE] = "none",
    [RESTART_RULE_AT_ONCE] = "at once",
    [RESTART_RULE_SHARE] = "processor share",
    [RESTART_RULE_BACKOFF] = "backoff",
    [RESTART_RULE_STALL_BUDGET] = "stall budget",
    [RESTART_RULE_GIVE_UP] = "given up"};

/* The backoff step of the n-th delayed restart, n from 0: first, 2 x first, 4 x first, ... capped.
 */
static uint64_t backoff_step(const struct restart_limits *limits, uint32_t doublings)
{
    uint64_t step = limits->first_delay_ns;
    while (doublings-- > 0 && step < limits->max_delay_ns)
        step = step > UINT64_MAX / 2 ? UINT64_MAX : step * 2;
    return step < limits->max_delay_ns ? step : limits->max_delay_ns;
}

static uint64_t backoff_delay(const struct restart_limits *limits, uint32_t doublings,
                              uint32_t random)
{
    uint64_t half = backoff_step(limits, doublings) / 2;
    return half + (uint64_t)((unsigned __int128)half * random >> 32);
}

/* When the share of the processor allows the next launch. */
static uint64_t share_delay(const struct restart_history *history, monotonic now)
{
    if (history->launched.ns == 0)
        return 0;
    uint64_t since = monotonic_since(now, history->launched);
    return since < RESTART_APART_NS ? RESTART_APART_NS - since : 0;
}

static uint32_t one_more(uint32_t count)
{
    return count < UINT32_MAX ? count + 1 : count;
}

/* After `fruitless` deaths without progress. One that never came up gets no free attempt, so its
 * delays begin one death earlier. */
static void decide_fruitless(const struct restart_limits *limits,
                             const struct restart_history *history, uint32_t random,
                             struct restart_decision *decision)
{
    bool ran = history->started.ns != 0;
    if (ran && decision->fruitless == 1)
        return;
    decision->rule = RESTART_RULE_BACKOFF;
    decision->delay_ns = backoff_delay(limits, decision->fruitless - (ran ? 2 : 1), random);
    if (decision->delay_ns == 0)
        decision->delay_ns = 1;
    if (decision->delay_ns > history->stall_budget_ns / 2) {
        decision->rule = RESTART_RULE_STALL_BUDGET;
        decision->delay_ns = history->stall_budget_ns / 2;
    }
}

struct restart_decision restart_policy_decide(const struct restart_limits *limits,
                                              const struct restart_history *history, monotonic now,
                                              uint32_t random)
{
    bool ran = history->started.ns != 0;
    bool healthy = ran && monotonic_since(now, history->started) >= limits->healthy_after_ns;
    struct restart_decision decision = {
        .rule = RESTART_RULE_AT_ONCE,
        .deaths_in_a_row = one_more(healthy ? 0 : history->deaths_in_a_row),
        .fruitless = history->progress ? 0 : one_more(healthy ? 0 : history->fruitless)};

    if (limits->give_up_after > 0 && decision.deaths_in_a_row >= limits->give_up_after) {
        decision.verdict = RESTART_GIVE_UP;
        decision.rule = RESTART_RULE_GIVE_UP;
        return decision;
    }
    if (decision.fruitless > 0)
        decide_fruitless(limits, history, random, &decision);
    uint64_t share = share_delay(history, now);
    if (share < history->share_wait_ns)
        share = history->share_wait_ns;
    if (decision.delay_ns < share) {
        decision.rule = RESTART_RULE_SHARE;
        decision.delay_ns = share;
    }
    decision.verdict = decision.delay_ns > 0 ? RESTART_LATER : RESTART_NOW;
    return decision;
}

void restart_share_init(struct restart_share *share, size_t children, unsigned processors)
{
    uint64_t interval = RESTART_APART_NS / (processors > 0 ? processors : 1);
    *share =
        (struct restart_share){.interval_ns = interval,
                               .burst_ns = (2 * (uint64_t)children + SHARE_BURST_LEAST) * interval};
}

uint64_t restart_share_reserve(struct restart_share *share, monotonic now)
{
    if (share->next.ns < now.ns)
        share->next = now;
    uint64_t ahead = share->next.ns - now.ns;
    share->next = monotonic_add(share->next, share->interval_ns);
    return ahead > share->burst_ns ? ahead - share->burst_ns : 0;
}

uint64_t restart_ready_deadline(uint64_t stall_budget_ns, uint32_t late_in_a_row, size_t starting)
{
    uint64_t deadline = stall_budget_ns / 2;
    if (deadline < READY_LEAST_NS)
        deadline = READY_LEAST_NS;
    while (late_in_a_row-- > 0 && deadline < READY_MOST_NS)
        deadline *= 2;
    if (deadline >= READY_MOST_NS || starting >= READY_MOST_NS / READY_EACH_NS)
        return READY_MOST_NS;
    deadline += starting * READY_EACH_NS;
    return deadline < READY_MOST_NS ? deadline : READY_MOST_NS;
}
