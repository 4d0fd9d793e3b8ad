/* SPDX-License-Identifier: MIT */
#include "supervisor/ctl/ctl_wake.h"

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

void ctl_wake_at(struct ctl_wake *wake, int64_t moment_ns)
{
    const int64_t early = moment_ns - wake->early_ns;
    if (early > (int64_t)monotonic_now().ns) {
        const struct timespec asked = {early / (int64_t)NS_PER_S, early % (int64_t)NS_PER_S};
        if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &asked, NULL) != 0)
            return;
        ctl_wake_learn(wake, (int64_t)monotonic_now().ns - early);
    }
    while ((int64_t)monotonic_now().ns < moment_ns)
        ;
}
