/* SPDX-License-Identifier: MIT */
/* The restart policy as a table: what has happened, and what must follow. A death with progress is
 * answered at once, as far as the share of the processor allows; deaths without wait longer and
 * longer, with jitter, up to the cap, but not longer than what waits for them may wait; a healthy
 * period forgives; giving up happens only if it was asked for. */
#include <check.h>

#include "supervisor/policy/restart_policy.h"
#include "tests/lib/unit.h"

#define MS    NS_PER_MS
#define S     NS_PER_S
#define NEVER 0

static const struct restart_limits usual = {.healthy_after_ns = 10 * S,
                                            .first_delay_ns = 10 * MS,
                                            .max_delay_ns = 10 * S,
                                            .give_up_after = 0};
static const struct restart_limits patient_thrice = {.healthy_after_ns = 10 * S,
                                                     .first_delay_ns = 10 * MS,
                                                     .max_delay_ns = 10 * S,
                                                     .give_up_after = 3};

enum { FRUITLESS, PROGRESS };

struct row {
    const char *story;
    const struct restart_limits *limits;
    uint32_t deaths_before;
    uint32_t fruitless_before;
    uint64_t started; /* NEVER, or when it became RUNNING; it died at 100 s */
    int progress;
    uint64_t stall_budget;
    enum restart_verdict verdict;
    enum restart_rule rule;
    uint64_t least, most; /* RESTART_LATER: the delay */
    uint32_t deaths_after;
    uint32_t fruitless_after;
};

#define NOW(rule)     RESTART_NOW, RESTART_RULE_##rule, 0, 0
#define BACKOFF(step) RESTART_LATER, RESTART_RULE_BACKOFF, (step) / 2, (step)
#define STALL(delay)  RESTART_LATER, RESTART_RULE_STALL_BUDGET, (delay), (delay)
#define SHARE(delay)  RESTART_LATER, RESTART_RULE_SHARE, (delay), (delay)
#define GIVE_UP       RESTART_GIVE_UP, RESTART_RULE_GIVE_UP, 0, 0
#define NO_STALL      RESTART_NO_STALL
#define LAUNCH_TAKES  (1 * MS) /* from the launch until RUNNING */

/* clang-format off */
static const struct row rows[] = {
    {"first death of one that had run a moment", &usual, 0, 0, 99 * S, FRUITLESS, NO_STALL, NOW(AT_ONCE), 1, 1},
    {"first death of one that never came up", &usual, 0, 0, NEVER, FRUITLESS, NO_STALL, BACKOFF(10 * MS), 1, 1},
    {"second death of one that never came up", &usual, 1, 1, NEVER, FRUITLESS, NO_STALL, BACKOFF(20 * MS), 2, 2},
    {"second death in a row", &usual, 1, 1, 99 * S, FRUITLESS, NO_STALL, BACKOFF(10 * MS), 2, 2},
    {"third death in a row", &usual, 2, 2, 99 * S, FRUITLESS, NO_STALL, BACKOFF(20 * MS), 3, 3},
    {"fourth death in a row", &usual, 3, 3, 99 * S, FRUITLESS, NO_STALL, BACKOFF(40 * MS), 4, 4},
    {"eleventh: still below the cap", &usual, 10, 10, 99 * S, FRUITLESS, NO_STALL, BACKOFF(5120 * MS), 11, 11},
    {"twelfth: the cap", &usual, 11, 11, 99 * S, FRUITLESS, NO_STALL, BACKOFF(10 * S), 12, 12},
    {"many deaths: the cap, no overflow", &usual, 4000000000u, 4000000000u, 99 * S, FRUITLESS, NO_STALL, BACKOFF(10 * S), 4000000001u, 4000000001u},
    {"the count does not wrap", &usual, UINT32_MAX, UINT32_MAX, 99 * S, FRUITLESS, NO_STALL, BACKOFF(10 * S), UINT32_MAX, UINT32_MAX},
    {"a healthy period forgives everything", &usual, 4000, 4000, 90 * S, FRUITLESS, NO_STALL, NOW(AT_ONCE), 1, 1},
    {"just not healthy", &usual, 1, 1, 90 * S + 1, FRUITLESS, NO_STALL, BACKOFF(10 * MS), 2, 2},
    {"started in the future (a clock that lies): not healthy", &usual, 3, 3, 101 * S, FRUITLESS, NO_STALL, BACKOFF(40 * MS), 4, 4},
    {"two of three", &patient_thrice, 1, 1, 99 * S, FRUITLESS, NO_STALL, BACKOFF(10 * MS), 2, 2},
    {"three of three", &patient_thrice, 2, 2, 99 * S, FRUITLESS, NO_STALL, GIVE_UP, 3, 3},
    {"three of three, though with progress", &patient_thrice, 2, 0, 99 * S, PROGRESS, NO_STALL, GIVE_UP, 3, 0},
    {"beyond three", &patient_thrice, 7, 7, NEVER, FRUITLESS, NO_STALL, GIVE_UP, 8, 8},
    {"three, but healthy between", &patient_thrice, 2, 2, 50 * S, FRUITLESS, NO_STALL, NOW(AT_ONCE), 1, 1},

    {"the hundredth in a row, each with progress", &usual, 99, 0, 99 * S, PROGRESS, NO_STALL, NOW(AT_ONCE), 100, 0},
    {"progress after many without", &usual, 40, 40, 99 * S, PROGRESS, NO_STALL, NOW(AT_ONCE), 41, 0},
    {"the first without progress after many with", &usual, 40, 0, 99 * S, FRUITLESS, NO_STALL, NOW(AT_ONCE), 41, 1},
    {"the second one", &usual, 41, 1, 99 * S, FRUITLESS, NO_STALL, BACKOFF(10 * MS), 42, 2},
    {"progress, and so soon that restarts would take too much of the processor", &usual, 9, 0, 100 * S - 4 * MS, PROGRESS, NO_STALL, SHARE(15 * MS), 10, 0},
    {"the same for the first death of all", &usual, 0, 0, 100 * S - 4 * MS, FRUITLESS, NO_STALL, SHARE(15 * MS), 1, 1},
    {"just long enough ago", &usual, 9, 0, 100 * S - 19 * MS, PROGRESS, NO_STALL, NOW(AT_ONCE), 10, 0},
    {"backoff is longer than the share asks for", &usual, 3, 3, 100 * S - 4 * MS, FRUITLESS, NO_STALL, BACKOFF(40 * MS), 4, 4},

    {"datagrams wait: half of what the buffer has room for", &usual, 11, 11, 99 * S, FRUITLESS, 700 * MS, STALL(350 * MS), 12, 12},
    {"room for longer than the step", &usual, 3, 3, 99 * S, FRUITLESS, 1 * S, BACKOFF(40 * MS), 4, 4},
    {"no room at all", &usual, 11, 11, 99 * S, FRUITLESS, 0, NOW(STALL_BUDGET), 12, 12},
    {"no room, but the share of the processor wins", &usual, 11, 11, 100 * S - 4 * MS, FRUITLESS, 0, SHARE(15 * MS), 12, 12},
    {"room does not matter to one with progress", &usual, 11, 0, 99 * S, PROGRESS, 700 * MS, NOW(AT_ONCE), 12, 0},
};
/* clang-format on */

static struct restart_history history_of(const struct row *row)
{
    return (struct restart_history){
        .deaths_in_a_row = row->deaths_before,
        .fruitless = row->fruitless_before,
        .launched = {row->started == NEVER ? 0 : row->started - LAUNCH_TAKES},
        .started = {row->started},
        .progress = row->progress == PROGRESS,
        .stall_budget_ns = row->stall_budget};
}

START_TEST(every_row_of_the_table_holds)
{
    const struct row *row = &rows[_i];
    const monotonic now = {100 * S};
    const uint32_t randoms[] = {0, 1, 0x7fffffff, 0x80000000u, UINT32_MAX};
    struct restart_history history = history_of(row);

    for (size_t i = 0; i < sizeof randoms / sizeof randoms[0]; i++) {
        struct restart_decision decision =
            restart_policy_decide(row->limits, &history, now, randoms[i]);
        ck_assert_msg(decision.verdict == row->verdict && decision.rule == row->rule,
                      "%s: verdict %d by rule %s", row->story, (int)decision.verdict,
                      restart_rule_names[decision.rule]);
        ck_assert_msg(decision.deaths_in_a_row == row->deaths_after &&
                          decision.fruitless == row->fruitless_after,
                      "%s: %u deaths, %u without progress", row->story, decision.deaths_in_a_row,
                      decision.fruitless);
        ck_assert_msg(decision.delay_ns >= row->least && decision.delay_ns <= row->most,
                      "%s: %llu ns for %x", row->story, (unsigned long long)decision.delay_ns,
                      randoms[i]);
    }
}
END_TEST

START_TEST(jitter_spreads_over_the_whole_upper_half_of_a_step)
{
    struct restart_history history = {.deaths_in_a_row = 1,
                                      .fruitless = 1,
                                      .started = {99 * S},
                                      .stall_budget_ns = RESTART_NO_STALL};
    const monotonic now = {100 * S};
    ck_assert_uint_eq(restart_policy_decide(&usual, &history, now, 0).delay_ns, 5 * MS);
    ck_assert_uint_eq(restart_policy_decide(&usual, &history, now, 0x80000000u).delay_ns, 7500000);
    ck_assert_uint_ge(restart_policy_decide(&usual, &history, now, UINT32_MAX).delay_ns,
                      10 * MS - 2);
}
END_TEST

START_TEST(odd_limits_do_no_harm)
{
    const struct restart_limits zero = {0};
    const struct restart_limits huge = {.first_delay_ns = UINT64_MAX / 3,
                                        .max_delay_ns = UINT64_MAX};
    struct restart_history never_ran = {
        .deaths_in_a_row = 5, .fruitless = 5, .stall_budget_ns = RESTART_NO_STALL};
    struct restart_decision decision =
        restart_policy_decide(&zero, &never_ran, (monotonic){1}, UINT32_MAX);
    ck_assert_int_eq(decision.verdict, RESTART_LATER);
    ck_assert_uint_eq(decision.delay_ns,
                      1); /* "later" is never "now": no loop without a turn of the event loop */
    decision = restart_policy_decide(&huge, &never_ran, (monotonic){1}, UINT32_MAX);
    ck_assert_uint_ge(decision.delay_ns, UINT64_MAX / 2);
}
END_TEST

/* How many starts fit into a minute when each lives for `lives`? */
static int count_starts(uint64_t lives, bool progress, uint64_t stall_budget_ns)
{
    monotonic now = {1000 * S};
    struct restart_history history = {.progress = progress, .stall_budget_ns = stall_budget_ns};
    int starts = 0;
    while (now.ns < 1060 * S) {
        history.launched = history.started = now;
        now = monotonic_add(now, lives);
        struct restart_decision decision = restart_policy_decide(&usual, &history, now, UINT32_MAX);
        history.deaths_in_a_row = decision.deaths_in_a_row;
        history.fruitless = decision.fruitless;
        now = monotonic_add(now, decision.delay_ns);
        starts++;
    }
    return starts;
}

START_TEST(a_crash_loop_settles_at_the_cap)
{
    int starts = count_starts(MS, false, RESTART_NO_STALL);
    ck_assert_int_ge(starts, 14);
    ck_assert_int_le(starts, 17);
}
END_TEST

/* Whatever waits and however far they get: a start costs up to 2 ms, so 3,000 of them a tenth. */
START_TEST(no_crash_loop_takes_more_than_its_share)
{
    ck_assert_int_le(count_starts(0, true, 0), 3000);
    ck_assert_int_le(count_starts(0, false, 0), 3000);
    ck_assert_int_le(count_starts(MS, true, RESTART_NO_STALL), 3000);
}
END_TEST

/* Twenty children that die as soon as they run, each with progress: together they take no more than
 * one would on each processor. A thousand that die at once are all back at once. */
START_TEST(a_start_gets_half_of_what_is_left_and_more_when_all_are_late)
{
    static const struct {
        uint64_t stall_ms;
        uint32_t late;
        size_t starting;
        uint64_t deadline_ms;
    } starts[] = {{1000, 0, 0, 500},        {1000, 1, 0, 1000},    {1000, 4, 0, 5000},
                  {1000, 1000000, 0, 5000}, {100, 0, 0, 250},      {0, 0, 0, 250},
                  {0, 3, 0, 2000},          {600000, 0, 0, 5000},  {0, 0, 10, 300},
                  {0, 0, 1000, 5000},       {0, 0, SIZE_MAX, 5000}};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        ck_assert_uint_eq(restart_ready_deadline(starts[i].stall_ms * NS_PER_MS, starts[i].late,
                                                 starts[i].starting),
                          starts[i].deadline_ms * NS_PER_MS);
    ck_assert_uint_eq(restart_ready_deadline(RESTART_NO_STALL, 0, 0), 5 * NS_PER_S);
    ck_assert_uint_eq(restart_ready_deadline(RESTART_NO_STALL, UINT32_MAX, 0), 5 * NS_PER_S);
}
END_TEST

START_TEST(nor_do_many_crash_loops_together)
{
    struct restart_share share;
    monotonic now = {1000 * S};
    int starts = 0;
    restart_share_init(&share, 20, 2);
    for (; now.ns < 1060 * S; now = monotonic_add(now, MS))
        for (int child = 0; child < 20; child++)
            starts +=
                share.next.ns <= now.ns + share.burst_ns && restart_share_reserve(&share, now) == 0;
    ck_assert_int_ge(starts, 6000);
    ck_assert_int_le(starts, 6000 + 2 * 20 + 21);

    restart_share_init(&share, 1000, 1);
    for (int child = 0; child < 1000; child++)
        ck_assert_uint_eq(restart_share_reserve(&share, now), 0);
    struct restart_history history = {.deaths_in_a_row = 1,
                                      .progress = true,
                                      .launched = {99 * S},
                                      .started = {99 * S},
                                      .stall_budget_ns = 0,
                                      .share_wait_ns = 70 * MS};
    struct restart_decision decision =
        restart_policy_decide(&usual, &history, (monotonic){100 * S}, 0);
    ck_assert_int_eq(decision.rule, RESTART_RULE_SHARE);
    ck_assert_uint_eq(decision.delay_ns, 70 * MS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("restart_policy");
    TCase *cases = tcase_create("policy");
    tcase_add_loop_test(cases, every_row_of_the_table_holds, 0,
                        (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(cases, jitter_spreads_over_the_whole_upper_half_of_a_step);
    tcase_add_test(cases, odd_limits_do_no_harm);
    tcase_add_test(cases, a_crash_loop_settles_at_the_cap);
    tcase_add_test(cases, no_crash_loop_takes_more_than_its_share);
    tcase_add_test(cases, nor_do_many_crash_loops_together);
    tcase_add_test(cases, a_start_gets_half_of_what_is_left_and_more_when_all_are_late);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
