/* SPDX-License-Identifier: MIT */
/* Ring memory that the machine does not give: each refusal leaves nothing behind and says what to
 * do, and huge pages that are missing keep no ring away. */
#include "supervisor/hold/hold_ring.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/lib/deny_call.h"
#include "tests/lib/unit.h"

static struct channel_spec *make_spec(void)
{
    struct channel_spec *spec = calloc(1, channel_spec_size(0));
    ck_assert_ptr_nonnull(spec);
    strcpy(spec->name, "engine");
    spec->ring_size = 1 << 20;
    spec->max_datagram = 2048;
    return spec;
}

static const struct refused_ring {
    struct denied_call call;
    const char *why;
} refused_rings[] = {
    {{SYS_memfd_create, EPERM, DENY_ANY_ARGUMENT, 0, 0},
     "(memfd_create): Operation not permitted; does a sandbox forbid it"},
    {{SYS_memfd_create, EMFILE, DENY_ANY_ARGUMENT, 0, 0},
     "(memfd_create): Too many open files; raise LimitNOFILE="},
    {{SYS_ftruncate, EFBIG, DENY_ANY_ARGUMENT, 0, 0},
     "(ftruncate): File too large; is ring_size too large?"},
};

START_TEST(a_ring_that_is_refused_says_what_to_do)
{
    char why[256];
    struct hold hold;
    struct channel_spec *spec = make_spec();
    ck_assert_int_eq(hold_init(&hold, spec), 0);
    int before = unit_count_fds();
    deny_call(&refused_rings[_i].call);
    ck_assert_int_eq(hold_ring_make(&hold, spec, 1, why, sizeof why),
                     -refused_rings[_i].call.error);
    ck_assert_msg(strstr(why, refused_rings[_i].why) != NULL, "%s", why);
    ck_assert_int_eq(unit_count_fds(), before);
    ck_assert_int_eq(hold.ring, -1);
    ck_assert_int_eq(hold.private_part, -1);
    ck_assert_ptr_null(hold.page);
    hold_close(&hold);
    free(spec);
}
END_TEST

START_TEST(descriptors_run_out_over_a_ring)
{
    char why[256];
    struct hold hold;
    struct rlimit limit;
    struct channel_spec *spec = make_spec();
    ck_assert_int_eq(hold_init(&hold, spec), 0);
    int last = dup(STDIN_FILENO);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const struct rlimit few = {(rlim_t)last + 1, limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (dup(STDIN_FILENO) >= 0) /* gaps below */
        ;
    for (int room = 0; room < 2; room++) { /* for none, and for one of the two */
        ck_assert_int_eq(hold_ring_make(&hold, spec, 1, why, sizeof why), -EMFILE);
        ck_assert_ptr_nonnull(strstr(why, "Too many open files; raise LimitNOFILE="));
        ck_assert_int_eq(hold.ring, -1);
        ck_assert_int_eq(hold.private_part, -1);
        if (room == 0)
            close(last);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(hold_ring_make(&hold, spec, 1, why, sizeof why), 0);
    hold_close(&hold);
    free(spec);
}
END_TEST

START_TEST(huge_pages_that_are_missing_keep_no_ring_away)
{
    char why[256];
    struct hold hold;
    struct channel_spec *spec = make_spec();
    spec->ring_pages = RING_PAGES_HUGE;
    deny_call(&(struct denied_call){SYS_memfd_create, ENOMEM, 1, 0, MFD_HUGETLB});
    ck_assert_int_eq(hold_init(&hold, spec), 0);
    ck_assert_int_eq(hold_ring_make(&hold, spec, 1, why, sizeof why), 0);
    ck_assert(!hold_ring_is_huge(&hold));
    ck_assert_msg(strstr(hold.pages_reason, "huge pages") || strstr(hold.pages_reason, "needed"),
                  "%s", hold.pages_reason);
    ck_assert(!hold_is_outdated(&hold, spec)); /* or it would be made anew all the time */
    hold_close(&hold);
    free(spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hold_ring");
    TCase *tests = tcase_create("refusals");
    tcase_add_loop_test(tests, a_ring_that_is_refused_says_what_to_do, 0,
                        sizeof refused_rings / sizeof *refused_rings);
    tcase_add_test(tests, descriptors_run_out_over_a_ring);
    tcase_add_test(tests, huge_pages_that_are_missing_keep_no_ring_away);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
