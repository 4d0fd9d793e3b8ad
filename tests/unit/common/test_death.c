/* SPDX-License-Identifier: MIT */
/* Names of the ends of processes: programs read the short ones, people the others; a number that
 * nobody knows has a name too. */
#include "common/death.h"

#include <check.h>
#include <limits.h>
#include <signal.h>

#include "tests/lib/unit.h"

static const struct {
    int cause;
    const char *name;
    const char *text;
} causes[] = {
    {DEATH_NONE, "asked", "end"},
    {DEATH_CRASH, "crash", "crash"},
    {DEATH_HANG, "hang", "hang"},
    {DEATH_KILLED, "killed", "killed"},
    {DEATH_EXIT, "exit", "unexpected exit"},
    {5, "unknown", "unknown"},
    {-1, "unknown", "unknown"},
    {INT_MAX, "unknown", "unknown"},
};

START_TEST(every_cause_has_its_names)
{
    ck_assert_str_eq(death_cause_name((enum death_cause)causes[_i].cause), causes[_i].name);
    ck_assert_str_eq(death_cause_text((enum death_cause)causes[_i].cause), causes[_i].text);
}
END_TEST

START_TEST(every_signal_has_a_name)
{
    char name[SIGNAL_NAME_SIZE];
    ck_assert_str_eq(signal_name(SIGSEGV, name), "SIGSEGV");
    ck_assert_str_eq(signal_name(SIGKILL, name), "SIGKILL");
    ck_assert_str_eq(signal_name(64, name), "signal 64");
    ck_assert_str_eq(signal_name(0, name), "signal 0");
    ck_assert_str_eq(signal_name(INT_MIN, name), "signal -2147483648");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("death");
    TCase *names = tcase_create("names");
    tcase_add_loop_test(names, every_cause_has_its_names, 0,
                        (int)(sizeof causes / sizeof causes[0]));
    tcase_add_test(names, every_signal_has_a_name);
    suite_add_tcase(suite, names);
    return unit_run(suite);
}
