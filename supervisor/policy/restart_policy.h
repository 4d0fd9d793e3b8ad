/* SPDX-License-Identifier: MIT */
/* When does a child that died start again? A pure function of its history, of what waits for it and
 * of the time: no clock, no state of its own, no side effects.
 *
 * Progress decides. A child that moved its work on, or had none to do, is replaced at once, however
 * many died before it: what killed it lies behind it. All that limits this is the processor time
 * that starting costs. One that dies without progress would die again: it waits longer and longer,
 * but while datagrams queue for it, never longer than half the time after which they would be
 * dropped. */
#ifndef HOLDFAST_SUPERVISOR_POLICY_RESTART_POLICY_H
#define HOLDFAST_SUPERVISOR_POLICY_RESTART_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/monotonic.h"

struct restart_limits {
    uint64_t healthy_after_ns; /* running this long forgives earlier deaths; default 10 s */
    uint64_t first_delay_ns;   /* default 10 ms, doubled with every further death */
    uint64_t max_delay_ns;     /* default 10 s */
    uint32_t give_up_after;    /* deaths in a row; 0 = never */
};

struct restart_history {
    uint32_t deaths_in_a_row; /* since the last healthy period, before this one */
    uint32_t fruitless;       /* of these, the newest ones in a row that made no progress */
    monotonic launched;       /* when the one that died was to get its work; ns = 0: never */
    monotonic started;        /* when the one that died became RUNNING; ns = 0: it never did */
    bool progress;            /* it had moved its work on, or had none to do */
    uint64_t
        stall_budget_ns; /* until what queues for it is dropped; RESTART_NO_STALL: nothing is */
    uint64_t
        share_wait_ns; /* restart_share_reserve(): until all children's share allows one more */
};

#define RESTART_NO_STALL UINT64_MAX

/* Two launches of a child are at least so far apart. One costs 1 to 2 ms of processor time, so that
 * its restarts take at most a tenth of one processor. */
#define RESTART_APART_NS (20 * NS_PER_MS)

enum restart_verdict {
    RESTART_NOW,
    RESTART_LATER,
    RESTART_GIVE_UP,
};

/* Which rule made the decision. */
enum restart_rule {
    RESTART_RULE_NONE,         /* nothing was decided yet */
    RESTART_RULE_AT_ONCE,      /* it made progress, or it is the first one that made none */
    RESTART_RULE_SHARE,        /* as soon as the share of the processor allows */
    RESTART_RULE_BACKOFF,      /* deaths without progress: between half of and the whole step */
    RESTART_RULE_STALL_BUDGET, /* the same, cut short because datagrams wait */
    RESTART_RULE_GIVE_UP,
    RESTART_RULE_COUNT
};

extern const char *const restart_rule_names[RESTART_RULE_COUNT]; /* "none", "at once", ... */

struct restart_decision {
    enum restart_verdict verdict;
    enum restart_rule rule;
    uint64_t delay_ns;        /* RESTART_LATER */
    uint32_t deaths_in_a_row; /* these two are to be kept for the next decision */
    uint32_t fruitless;
};

/* random: 32 random bits, for the jitter. */
struct restart_decision restart_policy_decide(const struct restart_limits *limits,
                                              const struct restart_history *history, monotonic now,
                                              uint32_t random);

/* The same for all children together: a tenth of every processor, after a burst in which each may
 * have died twice. */
struct restart_share {
    uint64_t interval_ns;
    uint64_t burst_ns;
    monotonic next; /* when the next launch were due if they came at even intervals */
};

void restart_share_init(struct restart_share *share, size_t children, unsigned processors);
/* One more launch: how long it has to wait, in nanoseconds. */
uint64_t restart_share_reserve(struct restart_share *share, monotonic now);

/* How long a child may take until it is READY: half the time after which what queues for it is
 * dropped, because another one may be faster; doubled for each that was late, because it may be the
 * machine that is slow; and longer when many start at once. */
uint64_t restart_ready_deadline(uint64_t stall_budget_ns, uint32_t late_in_a_row, size_t starting);

#endif
