/* SPDX-License-Identifier: MIT */
/* Runs a unit test's suite. Called by the main() of every test program, by log_maker_run() for
 * those that need a folder around it. Must return 1 for whatever failed: tests/run.py believes the
 * status. */
#include "tests/lib/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
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

void unit_skip(const char *format, ...)
{
    va_list arguments;
    char why[256];
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    const char *name = tcase_name(); /* NULL in a fixture */
    printf("skipped: %s%s%s\n", name ? name : "", name ? ": " : "", why);
    fflush(stdout);
    _exit(0);
}

pid_t unit_fork(void)
{
    pid_t pid = fork();
    if (pid < 0)
        ck_abort_msg("fork: %s", strerror(errno));
    return pid;
}

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int result = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    fd_close(&fd);
    return result;
}

/* A number that isn't mapped can't be given to a new file: creating one fails with EOVERFLOW. */
static int keep_numbers(uid_t user, gid_t group)
{
    char text[64];
    int result = write_text("/proc/self/setgroups", "deny");
    snprintf(text, sizeof text, "%u %u 1", user, user);
    if (!result)
        result = write_text("/proc/self/uid_map", text);
    snprintf(text, sizeof text, "%u %u 1", group, group);
    return result ? result : write_text("/proc/self/gid_map", text);
}

void unit_private_mounts(void)
{
    uid_t user = geteuid();
    gid_t group = getegid();
    if (unshare(CLONE_NEWNS) < 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
            unit_skip("mounts need root or a user namespace: %s", strerror(errno));
        int result = keep_numbers(user, group);
        if (result < 0)
            unit_skip("mounts need root or a user namespace that maps uid %u: %s", user,
                      strerror(-result));
    }
    /* Else others would see what is mounted below a shared mount. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        unit_skip(errno == EINVAL ? "mounts can't be made private: / is no mount point (%s)"
                                  : "mounts can't be made private: %s",
                  strerror(errno));
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
