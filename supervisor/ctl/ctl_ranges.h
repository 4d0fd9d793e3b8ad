/* SPDX-License-Identifier: MIT */
/* Sequence numbers as ranges: what verify and recover find missing, or worth telling. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_RANGES_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_RANGES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CTL_RANGES_MAX 10000

/* The first CTL_RANGES_MAX of them are kept, all are counted. */
struct ctl_ranges {
    struct ctl_range {
        uint64_t first, last;
    } * list;
    size_t kept;
    uint64_t ranges;
    uint64_t numbers;
};

/* In growing order. 0 or -ENOMEM. */
int ctl_ranges_add(struct ctl_ranges *ranges, uint64_t first, uint64_t last);
void ctl_ranges_free(struct ctl_ranges *ranges);
/* "12 in 2 ranges: 7..9, 100..108", with "…" when there are many. */
void ctl_ranges_print(FILE *to, const struct ctl_ranges *ranges, const char *title);

#endif
