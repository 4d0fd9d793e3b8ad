/* SPDX-License-Identifier: MIT */
/* Wakes up at a moment, and not as late after it as a timer does: it has itself woken as much
 * sooner as the kernel took to do it the last times, and turns round for the rest. That is a
 * quarter of the time that it had to wait and a tenth of a millisecond at most, and nothing where
 * there is only one processor: others need it. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_WAKE_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_WAKE_H

#include <stdbool.h>
#include <stdint.h>

#define CTL_WAKE_EARLY_MOST_NS 100000

struct ctl_wake {
    int64_t early_ns; /* 0 to CTL_WAKE_EARLY_MOST_NS */
    bool alone;       /* this process may use one processor only */
};

void ctl_wake_begin(struct ctl_wake *wake);

/* By CLOCK_MONOTONIC. A signal ends it early. */
void ctl_wake_at(struct ctl_wake *wake, int64_t moment_ns);

/* It was so much later than asked for. */
void ctl_wake_learn(struct ctl_wake *wake, int64_t late_ns);
/* So much before a moment that is so far away it asks to be woken. */
int64_t ctl_wake_early(const struct ctl_wake *wake, int64_t left_ns);

#endif
