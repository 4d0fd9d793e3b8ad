/* SPDX-License-Identifier: MIT */
/* holdfastctl's verbs on log files, offline: they read files and talk to nobody. argv are the
 * arguments behind the verb. Exit statuses: 0 all is well, 1 a file has a fault or can't be read or
 * written, 2 usage. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_RANGES_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* FILE...: read every block and record; tell the first fault, and what each file says about losses.
 * Files of one channel that follow each other on the command line are held against each other too.
 */
int ctl_verify(int argc, char **argv, bool json);

/* [-o OUT] FILE...: write every sound record to FILE.recovered.avro beside the original (or to OUT,
 * for one file). */
int ctl_recover(int argc, char **argv, bool json);

/* ---- shared by the two (ctl_log.c) ---- */

/* Sequence numbers as ranges; the first CTL_RANGES_MAX of them are kept, all are counted. */
#define CTL_RANGES_MAX 10000
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
void ctl_ranges_print(const struct ctl_ranges *ranges, const char *title);

#endif
