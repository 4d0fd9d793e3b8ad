/* SPDX-License-Identifier: MIT */
/* Last words lie in memory that a dying process, or a bad one, has written: whatever is there, the
 * supervisor reads it within its bounds. */
#include <signal.h>
#include <string.h>

#include "supervisor/child/obituary.h"
#include "tests/lib/unit.h"

#define GENERATION 7

static struct obituary_list list;
static struct last_words words;

static const struct obituary *write_it(void)
{
    const siginfo_t end = {.si_code = CLD_KILLED, .si_status = SIGKILL};
    const struct death death = {
        .generation = GENERATION, .pid = 4711, .assigned = monotonic_now(), .end = &end};
    const struct obituary *obituary = obituary_write(&list, &words, NULL, &death);
    ck_assert_ptr_nonnull(obituary);
    obituary_log("engine", obituary);
    obituary_log(NULL, obituary);
    return obituary;
}

static void tear_down(void)
{
    obituary_list_free(&list);
}

START_TEST(nonsense_is_bounded)
{
    memset(&words, 0xff, sizeof words);
    words.generation = GENERATION;
    atomic_store(&words.state, _i ? 2 : 1);
    const struct obituary *obituary = write_it();
    ck_assert(obituary->has_words);
    ck_assert_uint_le(obituary->words.frame_count, LAST_WORDS_FRAMES);
    ck_assert_uint_lt(strlen(obituary->words.text), sizeof obituary->words.text);
    ck_assert_uint_eq(atomic_load(&words.state), 0);
}
END_TEST

START_TEST(another_ones_are_not_looked_at)
{
    memset(&words, 0xff, sizeof words);
    words.generation = GENERATION - 1;
    atomic_store(&words.state, 2);
    const struct obituary *obituary = write_it();
    ck_assert(!obituary->has_words);
    ck_assert_uint_eq(obituary->words.frame_count, 0);
}
END_TEST

START_TEST(who_said_nothing)
{
    memset(&words, 0xff, sizeof words);
    ck_assert(!write_it()->has_words); /* state is nonsense */
    words = (struct last_words){.generation = GENERATION, .frame_count = UINT32_MAX};
    ck_assert(!write_it()->has_words);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("obituary");
    TCase *tests = tcase_create("last words");
    tcase_add_checked_fixture(tests, NULL, tear_down);
    tcase_add_loop_test(tests, nonsense_is_bounded, 0, 2);
    tcase_add_test(tests, another_ones_are_not_looked_at);
    tcase_add_test(tests, who_said_nothing);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
