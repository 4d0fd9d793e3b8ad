/* SPDX-License-Identifier: MIT */
/* The claim on a ring. The story: the first process has it, a second one has to wait; it is free as
 * soon as its holder is gone, however it went, also a stopped one that is evicted; sharing the
 * descriptor shares no claim; nobody is killed who does not have it. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/claim.h"
#include "common/monotonic.h"
#include "tests/lib/unit.h"

#define NO_PATIENCE 0
#define PATIENCE    (20 * NS_PER_S)

static int memfd;

static void setup(void)
{
    memfd = memfd_create("claimed", MFD_CLOEXEC);
    ck_assert_int_ge(memfd, 0);
}

/* A child that has the claim, and keeps it until it is killed or, with a lifetime, ends by itself.
 */
static pid_t start_holder(unsigned lifetime_ms)
{
    int ready[2];
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    pid_t child = unit_fork();
    if (child == 0) {
        pid_t holder;
        close(ready[0]);
        if (claim_take(memfd, NO_PATIENCE, &holder) < 0 || write(ready[1], "y", 1) != 1)
            _exit(1);
        poll(NULL, 0, lifetime_ms ? (int)lifetime_ms : -1);
        _exit(0);
    }
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

static void end_holder(pid_t child)
{
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}

START_TEST(one_process_has_it)
{
    pid_t holder = -1, child = start_holder(0);
    ck_assert_int_eq(claim_take(memfd, NO_PATIENCE, &holder), -EBUSY);
    ck_assert_int_eq(holder, child);
    end_holder(child);
    ck_assert_int_eq(claim_take(memfd, NO_PATIENCE, &holder), 0);
    ck_assert_int_eq(claim_take(memfd, NO_PATIENCE, &holder), 0); /* again, for the same process */
}
END_TEST

START_TEST(a_successor_waits_for_its_end)
{
    pid_t holder, child = start_holder(200);
    monotonic begun = monotonic_now();
    ck_assert_int_eq(claim_take(memfd, 20 * NS_PER_MS, &holder), -EBUSY);
    ck_assert_uint_ge(monotonic_since(monotonic_now(), begun), 20 * NS_PER_MS);
    ck_assert_int_eq(claim_take(memfd, PATIENCE, &holder), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}
END_TEST

START_TEST(a_stopped_holder_is_evicted)
{
    int status;
    pid_t holder, child = start_holder(0);
    kill(child, SIGSTOP);
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert(WIFSTOPPED(status));
    ck_assert_int_eq(claim_take(memfd, NO_PATIENCE, &holder), -EBUSY);
    ck_assert_int_eq(claim_evict(memfd), child);
    ck_assert_int_eq(claim_take(memfd, PATIENCE, &holder), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
END_TEST

START_TEST(nobody_else_is_killed)
{
    pid_t holder, child = start_holder(0);
    int other = memfd_create("another", MFD_CLOEXEC);
    ck_assert_int_eq(claim_evict(other), 0);
    ck_assert_int_eq(kill(child, 0), 0);
    end_holder(child);
    ck_assert_int_eq(claim_evict(memfd), 0);
    ck_assert_int_eq(claim_take(memfd, NO_PATIENCE, &holder), 0);
    ck_assert_int_eq(claim_evict(memfd), 0); /* one's own claim is no stranger's */
    close(other);
}
END_TEST

START_TEST(what_is_no_file_says_so)
{
    pid_t holder;
    ck_assert_int_eq(claim_take(-1, PATIENCE, &holder), -EBADF);
    ck_assert_int_eq(claim_evict(-1), -EBADF);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("claim");
    TCase *tests = tcase_create("claim");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, one_process_has_it);
    tcase_add_test(tests, a_successor_waits_for_its_end);
    tcase_add_test(tests, a_stopped_holder_is_evicted);
    tcase_add_test(tests, nobody_else_is_killed);
    tcase_add_test(tests, what_is_no_file_says_so);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
