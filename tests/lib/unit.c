/* SPDX-License-Identifier: MIT */
/* Runs a unit test's suite. Called by the main() of every test program, by log_maker_run() for
 * those that need a folder around it. Must return 1 for whatever failed: tests/run.py believes the
 * status. */
#include "tests/lib/unit.h"

#include <dirent.h>

int unit_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}

int unit_count_fds(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}
