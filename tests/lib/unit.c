/* SPDX-License-Identifier: MIT */
/* Runs a unit test's suite. Called by the main() of every test program, by log_maker_run() for
 * those that need a folder around it. Must return 1 for whatever failed: tests/run.py believes the
 * status. */
#include "tests/lib/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/fd.h"

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

long unit_read_small_file(int dir_fd, const char *path, char *buffer, size_t size)
{
    int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t length = 0;
    while (length < size - 1) {
        ssize_t n = read(fd, buffer + length, size - 1 - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            fd_close(&fd);
            return -error;
        }
        if (n == 0)
            break;
        length += (size_t)n;
    }
    buffer[length] = '\0';
    fd_close(&fd);
    return (long)length;
}
