/* SPDX-License-Identifier: MIT */
/* Descriptors. The story: an owner lets go exactly once; a whole write goes where it should and
 * leaves the file offset alone; a device that is full, and a descriptor that is none, say so. */
#include "common/fd.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/unit.h"

START_TEST(an_owner_lets_go_once)
{
    int before = unit_count_fds();
    int fd = memfd_create("fd", MFD_CLOEXEC), other = fd_take(&fd);
    ck_assert_int_eq(fd, -1);
    ck_assert_int_ge(other, 0);
    errno = ENOENT;
    fd_close(&other);
    fd_close(&other);
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_int_eq(other, -1);
    ck_assert_int_eq(unit_count_fds(), before);
}
END_TEST

START_TEST(all_of_it_is_written)
{
    char got[10] = "";
    int fd = memfd_create("fd", MFD_CLOEXEC);
    ck_assert_int_eq(fd_write_all(fd, "holdfast", 8, 2), 0);
    ck_assert_int_eq(fd_write_all(fd, "", 0, 100), 0);
    ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 0);
    ck_assert_int_eq(read(fd, got, sizeof got), 10);
    ck_assert_int_eq(memcmp(got, "\0\0holdfast", 10), 0);
    fd_close(&fd);
}
END_TEST

START_TEST(what_can_not_be_written_says_why)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(full, 0);
    ck_assert_int_eq(fd_write_all(full, "x", 1, 0), -ENOSPC);
    fd_close(&full);
    ck_assert_int_eq(fd_write_all(-1, "x", 1, 0), -EBADF);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fd");
    TCase *cases = tcase_create("fd");
    tcase_add_test(cases, an_owner_lets_go_once);
    tcase_add_test(cases, all_of_it_is_written);
    tcase_add_test(cases, what_can_not_be_written_says_why);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
