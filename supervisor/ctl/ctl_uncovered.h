/* SPDX-License-Identifier: MIT */
/* Times in which nobody was receiving, as the log admits to them: what verify tells. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_UNCOVERED_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_UNCOVERED_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CTL_TIME_TEXT_SIZE 40

/* "2025-10-09T08:53:20Z", "?" for what no calendar has. */
void ctl_print_time(int64_t us, char text[CTL_TIME_TEXT_SIZE]);

/* The first CTL_UNCOVERED_MAX of them are kept, all are counted. */
#define CTL_UNCOVERED_MAX 1000
struct ctl_uncovered {
    struct ctl_uncovered_time {
        uint64_t seq;     /* of the record behind it */
        bool from_known;  /* false: there is no record before it */
        int64_t from_us;  /* receive time of the record before it */
        int64_t until_us; /* and of the one behind it */
    } * list;
    size_t kept;
    uint64_t count;
};

/* 0 or -ENOMEM. */
int ctl_uncovered_add(struct ctl_uncovered *uncovered, const struct ctl_uncovered_time *time);
void ctl_uncovered_free(struct ctl_uncovered *uncovered);
void ctl_uncovered_print(FILE *to, const struct ctl_uncovered *uncovered);
/* {"count", "before": [{"seq", "from_us" (or null), "until_us"}]} */
json_t *ctl_uncovered_json(const struct ctl_uncovered *uncovered);

#endif
