/* SPDX-License-Identifier: MIT */
#include "supervisor/ctl/ctl_wake.h"

#include <sched.h>
#include <stdbool.h>
#include <time.h>

#include "common/monotonic.h"

#define STEP_NS 500

void ctl_wake_learn(struct ctl_wake *wake, int64_t late_ns)
{
    /* Where three of four are woken in time, a few turns are all that is left to do. */
    wake->early_ns += late_ns > wake->early_ns ? 3 * STEP_NS : -STEP_NS;
    if (wake->early_ns < 0)
        wake->early_ns = 0;
    if (wake->early_ns > CTL_WAKE_EARLY_MOST_NS)
        wake->early_ns = CTL_WAKE_EARLY_MOST_NS;
}

int64_t ctl_wake_early(const struct ctl_wake *wake, int64_t left_ns)
{
    const int64_t most = left_ns / 4;
    return wake->alone ? 0 : wake->early_ns < most ? wake->early_ns : most;
}

void ctl_wake_begin(struct ctl_wake *wake)
{
    cpu_set_t cpus;
    *wake = (struct ctl_wake){.alone = sched_getaffinity(0, sizeof cpus, &cpus) == 0 &&
                                       CPU_COUNT(&cpus) < 2};
}

void ctl_wake_at(struct ctl_wake *wake, int64_t moment_ns)
{
    const int64_t left = moment_ns - (int64_t)monotonic_now().ns;
    if (left <= 0)
        return;
    const int64_t asked_ns = moment_ns - ctl_wake_early(wake, left);
    const struct timespec asked = {asked_ns / (int64_t)NS_PER_S, asked_ns % (int64_t)NS_PER_S};
    if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &asked, NULL) != 0)
        return;
    ctl_wake_learn(wake, (int64_t)monotonic_now().ns - asked_ns);
    while ((int64_t)monotonic_now().ns < moment_ns)
        ;
}
