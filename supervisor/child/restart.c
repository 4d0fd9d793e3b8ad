/* SPDX-License-Identifier: MIT */
/* Asks the restart policy with the present time and random jitter. Used for channels' workers,
 * spares, the archive and sockets that can't be opened. */
#include "supervisor/child/restart.h"

#include <sys/random.h>

static uint32_t random_bits(monotonic now)
{
    uint32_t value = 0;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != sizeof value)
        value = (uint32_t)(now.ns * 2654435761u); /* early at boot: jitter needs no more */
    return value;
}

void restart_forget(struct restart *restart)
{
    restart->deaths_in_a_row = 0;
    restart->fruitless = 0;
}

struct restart_decision restart_decide(struct restart *restart, const struct restart_limits *limits,
                                       const struct restart_circumstances *circumstances)
{
    monotonic now = monotonic_now();
    struct restart_history history = {.deaths_in_a_row = restart->deaths_in_a_row,
                                      .fruitless = restart->fruitless,
                                      .launched = restart->launched,
                                      .started = restart->running_since,
                                      .progress = circumstances->progress,
                                      .stall_budget_ns = circumstances->stall_budget_ns,
                                      .share_wait_ns = circumstances->share_wait_ns};
    struct restart_decision decision =
        restart_policy_decide(limits, &history, now, random_bits(now));
    restart->deaths_in_a_row = decision.deaths_in_a_row;
    restart->fruitless = decision.fruitless;
    restart->rule = decision.rule;
    restart->launched = (monotonic){0};
    restart->running_since = (monotonic){0};
    return decision;
}

uint64_t restart_delay(struct restart *restart, const struct restart_limits *limits)
{
    const struct restart_circumstances nothing = {.stall_budget_ns = RESTART_NO_STALL};
    struct restart_limits patient = *limits;
    patient.give_up_after = 0;
    struct restart_decision decision = restart_decide(restart, &patient, &nothing);
    return decision.verdict == RESTART_NOW ? 0 : decision.delay_ns;
}
