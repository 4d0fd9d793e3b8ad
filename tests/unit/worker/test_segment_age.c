/* SPDX-License-Identifier: MIT */
/* segment_time counts time that has passed, not what the wall clock shows: that is set back and
 * forth under a segment. */
#include "worker/channel/segment_age.h"

#include <check.h>
#include <stdlib.h>

#include "tests/lib/unit.h"

#define DAY  (86400 * NS_PER_S)
#define NOON (20000 * DAY)

static const monotonic boot = {100 * NS_PER_S};

START_TEST(test_what_this_worker_began)
{
    struct segment_age age;
    segment_age_begin(&age, boot);
    ck_assert_uint_eq(segment_age_at(&age, boot), 0);
    ck_assert_uint_eq(segment_age_wait(&age, boot, 10 * NS_PER_S), 5 * NS_PER_S);
    monotonic later = monotonic_add(boot, 7 * NS_PER_S);
    ck_assert_uint_eq(segment_age_at(&age, later), 7 * NS_PER_S);
    ck_assert_uint_eq(segment_age_wait(&age, later, 10 * NS_PER_S), 3 * NS_PER_S);
    ck_assert_uint_eq(segment_age_wait(&age, later, 7 * NS_PER_S), 0);
}
END_TEST

static const struct {
    uint64_t now_ns, created_ns, expected;
} inherited[] = {
    {NOON + 7 * NS_PER_S, NOON, 7 * NS_PER_S},
    {NOON, NOON, 0},
    {NOON - DAY, NOON, 0},              /* the clock was set back */
    {NOON + DAY, NOON, 100 * NS_PER_S}, /* set forward, or the machine was off: since boot */
    {NOON, 0, 100 * NS_PER_S},          /* begun at 1970 */
};

START_TEST(test_what_an_earlier_one_began)
{
    struct segment_age age;
    segment_age_inherit(&age, boot, inherited[_i].now_ns, inherited[_i].created_ns);
    ck_assert_uint_eq(segment_age_at(&age, boot), inherited[_i].expected);
    /* From there on it grows with what passes. */
    ck_assert_uint_eq(segment_age_at(&age, monotonic_add(boot, NS_PER_S)),
                      inherited[_i].expected + NS_PER_S);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("segment_age");
    TCase *cases = tcase_create("age");
    tcase_add_test(cases, test_what_this_worker_began);
    tcase_add_loop_test(cases, test_what_an_earlier_one_began, 0,
                        (int)(sizeof inherited / sizeof *inherited));
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
