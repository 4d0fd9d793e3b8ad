/* SPDX-License-Identifier: MIT */
/* What the machine counts of a thread while something is measured: page faults, context switches,
 * TLB misses (getrusage(2), perf_event_open(2)). */
#ifndef HOLDFAST_TESTS_BENCH_COUNTS_H
#define HOLDFAST_TESTS_BENCH_COUNTS_H

#include <stdint.h>

struct counts {
    uint64_t faults;         /* without a disk */
    uint64_t disk_faults;    /* with one */
    uint64_t waited;         /* context switches because it waited ... */
    uint64_t preempted;      /* ... because something else was to run */
    uint64_t tlb_misses;     /* of data, read and written; only if tlb_why is "" */
    char tlb_why[80];        /* why these are not counted here */
    int tlb_read, tlb_write; /* perf events; -1 when not open */
};

/* The calling thread, from here ... */
void counts_begin(struct counts *counts);
/* ... to here. */
void counts_end(struct counts *counts);

/* As members of a JSON object, without its braces. */
void counts_print(const struct counts *counts);

#endif
