/* SPDX-License-Identifier: MIT */
/* The restart policy as a table: what has happened, and what must follow. A first death after good
 * service is answered at once; deaths in a row wait longer and longer, with jitter, up to the cap;
 * a healthy period forgives; giving up happens only if it was asked for. */
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

struct row {
    const char *story;
    const struct restart_limits *limits;
    uint32_t deaths_before;
    uint64_t started; /* NEVER, or when it became RUNNING; it died at 100 s */
    enum restart_verdict verdict;
    uint64_t step; /* RESTART_LATER: the whole backoff step */
    uint32_t deaths_after;
};

static const struct row rows[] = {
    {"first death of one that had run a moment", &usual, 0, 99 * S, RESTART_NOW, 0, 1},
    {"first death of one that never came up", &usual, 0, NEVER, RESTART_LATER, 10 * MS, 1},
    {"second death of one that never came up", &usual, 1, NEVER, RESTART_LATER, 20 * MS, 2},
    {"second death in a row", &usual, 1, 99 * S, RESTART_LATER, 10 * MS, 2},
    {"third death in a row", &usual, 2, 99 * S, RESTART_LATER, 20 * MS, 3},
    {"fourth death in a row", &usual, 3, 99 * S, RESTART_LATER, 40 * MS, 4},
    {"eleventh: still below the cap", &usual, 10, 99 * S, RESTART_LATER, 5120 * MS, 11},
    {"twelfth: the cap", &usual, 11, 99 * S, RESTART_LATER, 10 * S, 12},
    {"many deaths: the cap, no overflow", &usual, 4000000000u, 99 * S, RESTART_LATER, 10 * S,
     4000000001u},
    {"the count does not wrap", &usual, UINT32_MAX, 99 * S, RESTART_LATER, 10 * S, UINT32_MAX},
    {"a healthy period forgives everything", &usual, 4000, 90 * S, RESTART_NOW, 0, 1},
    {"just not healthy", &usual, 1, 90 * S + 1, RESTART_LATER, 10 * MS, 2},
    {"started in the future (a clock that lies): not healthy", &usual, 2, 101 * S, RESTART_LATER,
     20 * MS, 3},
    {"two of three", &patient_thrice, 1, 99 * S, RESTART_LATER, 10 * MS, 2},
    {"three of three", &patient_thrice, 2, 99 * S, RESTART_GIVE_UP, 0, 3},
    {"beyond three", &patient_thrice, 7, NEVER, RESTART_GIVE_UP, 0, 8},
    {"three, but healthy between", &patient_thrice, 2, 50 * S, RESTART_NOW, 0, 1},
};

START_TEST(every_row_of_the_table_holds)
{
    const struct row *row = &rows[_i];
    const monotonic now = {100 * S};
    const uint32_t randoms[] = {0, 1, 0x7fffffff, 0x80000000u, UINT32_MAX};
    struct restart_history history = {.deaths_in_a_row = row->deaths_before,
                                      .started = {row->started}};

    for (size_t i = 0; i < sizeof randoms / sizeof randoms[0]; i++) {
        struct restart_decision decision =
            restart_policy_decide(row->limits, &history, now, randoms[i]);
        ck_assert_msg(decision.verdict == row->verdict, "%s: verdict %d", row->story,
                      (int)decision.verdict);
        ck_assert_msg(decision.deaths_in_a_row == row->deaths_after, "%s: %u deaths", row->story,
                      decision.deaths_in_a_row);
        if (row->verdict != RESTART_LATER)
            continue;
        ck_assert_msg(decision.delay_ns >= row->step / 2 && decision.delay_ns <= row->step,
                      "%s: %llu ns for %x", row->story, (unsigned long long)decision.delay_ns,
                      randoms[i]);
    }
}
END_TEST

START_TEST(jitter_spreads_over_the_whole_upper_half_of_a_step)
{
    struct restart_history history = {.deaths_in_a_row = 1, .started = {99 * S}};
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
    struct restart_history never_ran = {.deaths_in_a_row = 5};
    struct restart_decision decision =
        restart_policy_decide(&zero, &never_ran, (monotonic){1}, UINT32_MAX);
    ck_assert_int_eq(decision.verdict, RESTART_LATER);
    ck_assert_uint_eq(decision.delay_ns,
                      1); /* "later" is never "now": no loop without a turn of the event loop */
    decision = restart_policy_decide(&huge, &never_ran, (monotonic){1}, UINT32_MAX);
    ck_assert_uint_ge(decision.delay_ns, UINT64_MAX / 2);
}
END_TEST

/* A worker that dies the moment it runs: how many starts fit into a minute? */
START_TEST(a_crash_loop_settles_at_the_cap)
{
    monotonic now = {1000 * S};
    struct restart_history history = {0};
    int starts = 0;
    while (now.ns < 1060 * S) {
        history.started = now;
        now = monotonic_add(now, MS);
        struct restart_decision decision = restart_policy_decide(&usual, &history, now, UINT32_MAX);
        history.deaths_in_a_row = decision.deaths_in_a_row;
        now = monotonic_add(now, decision.verdict == RESTART_NOW ? 0 : decision.delay_ns);
        starts++;
    }
    ck_assert_int_ge(starts, 14);
    ck_assert_int_le(starts, 17);
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
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
