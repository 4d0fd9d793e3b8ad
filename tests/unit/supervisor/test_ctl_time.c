/* SPDX-License-Identifier: MIT */
/* Moments as people write them. The story: the same words in several zones; the hours that clocks
 * skip and repeat; then everything that is no moment, each with a word of what would be right. The
 * zones are written as POSIX rules, so that no zone file is needed. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/monotonic.h"
#include "supervisor/ctl/ctl_time.h"
#include "tests/lib/unit.h"

#define UTC        "UTC0"
#define BERLIN     "CET-1CEST,M3.5.0,M10.5.0/3"
#define NEWYORK    "EST5EDT,M3.2.0,M11.1.0"
#define KOLKATA    "IST-5:30"
#define HOWE       "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0" /* half an hour of summer time */
#define CAIRO      "EET-2EEST,M4.5.5/0,M10.5.4/24"        /* clocks change at midnight */

#define S(seconds) ((int64_t)(seconds) * (int64_t)NS_PER_S)

/* 2026-11-21 12:34:56.789 UTC, a Saturday */
#define NOW (S(1795264496) + 789000000)

static void set_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static const struct moment {
    const char *zone, *text;
    int64_t ns;
} moments[] = {
    {UTC, "2026-11-21 12:00:00", S(1795262400)},
    {UTC, "2026-11-21 12:00:00.5", S(1795262400) + 500000000},
    {UTC, "2026-11-21 12:00:00.123456789", S(1795262400) + 123456789},
    {UTC, "2026-11-21 12:00:00.1234567899", S(1795262400) + 123456789},
    {UTC, "2026-11-21 12:00", S(1795262400)},
    {UTC, "2026-11-21T12:00:00Z", S(1795262400)},
    {UTC, "2026-11-21T12:00:00", S(1795262400)},
    {UTC, "  2026-11-21   12:00  ", S(1795262400)},
    {UTC, "2026-11-21", S(1795219200)},
    {UTC, "12:00", S(1795262400)},
    {UTC, "12:00:05", S(1795262405)},
    {UTC, "12:00:05.25", S(1795262405) + 250000000},
    {UTC, "today", S(1795219200)},
    {UTC, "yesterday", S(1795132800)},
    {UTC, "tomorrow", S(1795305600)},
    {UTC, "yesterday 14:03", S(1795132800 + 14 * 3600 + 180)},
    {UTC, "now", NOW},
    {UTC, "-5min", NOW - S(300)},
    {UTC, "-1h30m", NOW - S(5400)},
    {UTC, "-1h 30min", NOW - S(5400)},
    {UTC, "- 5 min", NOW - S(300)},
    {UTC, "+5min", NOW + S(300)},
    {UTC, "5min ago", NOW - S(300)},
    {UTC, "2 h left", NOW + S(7200)},
    {UTC, "-1.5h", NOW - S(5400)},
    {UTC, "-.5s", NOW - 500000000},
    {UTC, "-250ms", NOW - 250000000},
    {UTC, "-7us", NOW - 7000},
    {UTC, "-1w2d", NOW - S(9 * 86400)},
    {UTC, "@1790000000", S(1790000000)},
    {UTC, "@1790000000.5", S(1790000000) + 500000000},
    {UTC, "@0", 0},
    {UTC, "2028-02-29", S(1835395200)},
    {UTC, "2026-11-21T12:00:00+02:00", S(1795262400 - 7200)},
    {UTC, "2026-11-21 12:00 -0330", S(1795262400 + 3 * 3600 + 1800)},

    {BERLIN, "2026-11-21 13:00:00", S(1795262400)},
    {BERLIN, "2026-07-21 14:00:00", S(1784635200)},
    {BERLIN, "2026-11-21 12:00 UTC", S(1795262400)},
    {BERLIN, "2026-11-21 12:00 utc", S(1795262400)},
    {BERLIN, "12:00 UTC", S(1795262400)},
    {BERLIN, "today", S(1795219200 - 3600)},
    {BERLIN, "today UTC", S(1795219200)},
    {BERLIN, "@1790000000", S(1790000000)},
    {NEWYORK, "2026-11-21 07:00", S(1795262400)},
    {NEWYORK, "today", S(1795219200 + 5 * 3600)},
    {KOLKATA, "2026-11-21 17:30", S(1795262400)},
    {KOLKATA, "12:00", S(1795219200 + 6 * 3600 + 1800)},

    /* Set forward at 02:00: the moments before and behind it. */
    {BERLIN, "2026-03-29 01:59:59", S(1774745999)},
    {BERLIN, "2026-03-29 03:00:00", S(1774746000)},
    {NEWYORK, "2026-03-08 03:00", S(1772953200)},
    {HOWE, "2026-10-04 02:30", S(1791041400)},
    /* Set back: of two, the first. */
    {BERLIN, "2026-10-25 02:30", S(1792888200)},
    {BERLIN, "2026-10-25 03:00", S(1792893600)},
    {NEWYORK, "2026-11-01 01:30", S(1793511000)},
    /* A day that doesn't begin at midnight begins when it begins. */
    {CAIRO, "2026-04-24", S(1776981600)},
    {CAIRO, "2026-04-24 01:00", S(1776981600)},
};

START_TEST(a_moment_is_what_it_says)
{
    const struct moment *row = &moments[_i];
    char why[CTL_TIME_WHY_SIZE] = "";
    int64_t ns = -1;
    set_zone(row->zone);
    ck_assert_msg(ctl_time_parse(row->text, NOW, &ns, why) == 0, "%s, %s: %s", row->zone, row->text,
                  why);
    ck_assert_msg(ns == row->ns, "%s, %s: %lld, expected %lld", row->zone, row->text, (long long)ns,
                  (long long)row->ns);
}
END_TEST

/* The day before one on which the clocks are set is 24 hours away only by the calendar. */
START_TEST(days_are_counted_by_the_calendar)
{
    char why[CTL_TIME_WHY_SIZE];
    int64_t today, yesterday, tomorrow;
    set_zone(BERLIN);
    const int64_t now = S(1774774800); /* 2026-03-29 11:00 there, a day of 23 hours */
    ck_assert_int_eq(ctl_time_parse("today", now, &today, why), 0);
    ck_assert_int_eq(ctl_time_parse("tomorrow", now, &tomorrow, why), 0);
    ck_assert_int_eq(ctl_time_parse("yesterday", now, &yesterday, why), 0);
    ck_assert_int_eq(tomorrow - today, S(23 * 3600));
    ck_assert_int_eq(today - yesterday, S(24 * 3600));
}
END_TEST

static const struct refused {
    const char *zone, *text, *why;
} refused[] = {
    {UTC, "", "no time is given"},
    {UTC, "   ", "no time is given"},
    {UTC, "soon", "it is no time"},
    {UTC, "nowish", "it is no time"},
    {UTC, "todayish", "it is no time"},
    {UTC, "2026-13-01", "there is no month 13"},
    {UTC, "2026-00-01", "there is no month 0"},
    {UTC, "2026-02-29", "2026-02 has 28 days, there is no 29"},
    {UTC, "2026-04-31", "2026-04 has 30 days"},
    {UTC, "1968-12-31", "years go from 1970"},
    {UTC, "1969-12-31", "that is before 1970"},
    {UTC, "2300-01-01", "years go from 1970"},
    {UTC, "26-11-21", "year-month-day with all its digits"},
    {UTC, "2026-1-1", "year-month-day with all its digits"},
    {UTC, "21.11.2026", "year-month-day"},
    {UTC, "20261121", "year-month-day"},
    {UTC, "2026-11-21 25:00", "there is no 25:00:00"},
    {UTC, "2026-11-21 12:60", "there is no 12:60:00"},
    {UTC, "12:00:60", "there is no 12:00:60"},
    {UTC, "24:00", "there is no 24:00:00"},
    {UTC, "1:30", "with all its digits"},
    {UTC, "12:0", "with all its digits"},
    {UTC, "12:00:5", "seconds have two digits"},
    {UTC, "12:00:05.", "digits missing behind the point"},
    {UTC, "12:00 CET", "'CET' behind it is not understood"},
    {UTC, "12:00 UTC+1", "'UTC+1' behind it is not understood"},
    {UTC, "2026-11-21T12:00:00+2", "is not understood"},
    {UTC, "2026-11-21T12:00:00+24:00", "is not understood"},
    {UTC, "2026-11-21 12:00 13:00", "is not understood"},
    {UTC, "-5", "'5' has no unit: write for example 5s, 5min or 5h"},
    {UTC, "-5parsec", "'parsec' is no unit"},
    {UTC, "-", "there is a number missing"},
    {UTC, "-min", "there is a number missing"},
    {UTC, "-.s", "there is a number missing"},
    {UTC, "-5min ago", "leave one out"},
    {UTC, "5min", "before or after now"},
    {UTC, "5min later", "'later' is not understood"},
    {UTC, "-99999999999999999999s", "too large"},
    {UTC, "-9999999999h", "too long"},
    {UTC, "-100y", "before 1970"},
    {UTC, "+300y", "too"},
    {UTC, "@", "seconds since 1970"},
    {UTC, "@-5", "seconds since 1970"},
    {UTC, "@1.", "seconds since 1970"},
    {UTC, "@1x", "seconds since 1970"},
    {UTC, "@99999999999999999999", "too large"},
    {UTC, "@99999999999999", "too far away"},
    {UTC, "1970-01-01 00:30 +01:00", "before 1970"},
    /* What no clock there has ever shown. */
    {BERLIN, "2026-03-29 02:00", "there was no 02:00:00 on 2026-03-29 here"},
    {BERLIN, "2026-03-29 02:59:59", "there was no 02:59:59 on 2026-03-29 here"},
    {NEWYORK, "2026-03-08 02:30", "there was no 02:30:00"},
    {HOWE, "2026-10-04 02:15", "there was no 02:15:00"},
};

START_TEST(what_is_none_is_refused_and_says_why)
{
    const struct refused *row = &refused[_i];
    char why[CTL_TIME_WHY_SIZE] = "";
    int64_t ns = -1;
    set_zone(row->zone);
    ck_assert_msg(ctl_time_parse(row->text, NOW, &ns, why) == -EINVAL, "%s, %s: was taken for %lld",
                  row->zone, row->text, (long long)ns);
    ck_assert_msg(strstr(why, row->why) != NULL, "%s: %s", row->text, why);
}
END_TEST

START_TEST(spans)
{
    char why[CTL_TIME_WHY_SIZE];
    int64_t ns;
    ck_assert_int_eq(ctl_span_parse("2.5s", &ns, why), 0);
    ck_assert_int_eq(ns, 2500000000);
    ck_assert_int_eq(ctl_span_parse("1min 30 s", &ns, why), 0);
    ck_assert_int_eq(ns, S(90));
    ck_assert_int_eq(ctl_span_parse("0s", &ns, why), 0);
    ck_assert_int_eq(ns, 0);
    ck_assert_int_eq(ctl_span_parse("-5s", &ns, why), -EINVAL);
    ck_assert_int_eq(ctl_span_parse("5", &ns, why), -EINVAL);
    ck_assert_int_eq(ctl_span_parse("5s ago", &ns, why), -EINVAL);
    ck_assert_int_eq(ctl_span_parse("", &ns, why), -EINVAL);
}
END_TEST

START_TEST(the_way_back)
{
    char text[CTL_TIME_TEXT_SIZE];
    set_zone(BERLIN);
    ctl_time_print_utc(NOW, text);
    ck_assert_str_eq(text, "2026-11-21T12:34:56.789000000Z");
    ctl_time_print_local(NOW, text);
    ck_assert_str_eq(text, "2026-11-21 13:34:56.789000");
    ctl_time_print_local_whole(NOW, text);
    ck_assert_str_eq(text, "2026-11-21T13:34:56.789000000+01:00");
    set_zone(NEWYORK);
    ctl_time_print_local_whole(NOW, text);
    ck_assert_str_eq(text, "2026-11-21T07:34:56.789000000-05:00");
    set_zone("<-0330>3:30");
    ctl_time_print_local_whole(NOW, text);
    ck_assert_str_eq(text, "2026-11-21T09:04:56.789000000-03:30");
    ctl_time_print_utc(-1, text);
    ck_assert_str_eq(text, "1969-12-31T23:59:59.999999999Z");
    ctl_time_print_utc(INT64_MAX, text);
    ck_assert_str_eq(text, "2262-04-11T23:47:16.854775807Z");
}
END_TEST

/* What is printed is read again as the same moment. */
START_TEST(there_and_back)
{
    static const char *const zones[] = {UTC, BERLIN, NEWYORK, KOLKATA, HOWE, CAIRO};
    char text[CTL_TIME_TEXT_SIZE], why[CTL_TIME_WHY_SIZE];
    int64_t ns;
    set_zone(zones[_i]);
    for (int64_t moment = 0; moment < S(2000000000); moment += S(3456789) + 123456789) {
        ctl_time_print_local_whole(moment, text);
        ck_assert_msg(ctl_time_parse(text, NOW, &ns, why) == 0 && ns == moment, "%s: %s", text,
                      why);
        ctl_time_print_utc(moment, text);
        ck_assert_msg(ctl_time_parse(text, NOW, &ns, why) == 0 && ns == moment, "%s: %s", text,
                      why);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("times of holdfastctl");
    TCase *tests = tcase_create("time");
    tcase_add_loop_test(tests, a_moment_is_what_it_says, 0, sizeof moments / sizeof *moments);
    tcase_add_test(tests, days_are_counted_by_the_calendar);
    tcase_add_loop_test(tests, what_is_none_is_refused_and_says_why, 0,
                        sizeof refused / sizeof *refused);
    tcase_add_test(tests, spans);
    tcase_add_test(tests, the_way_back);
    tcase_add_loop_test(tests, there_and_back, 0, 6);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
