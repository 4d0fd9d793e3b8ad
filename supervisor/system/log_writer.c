/* SPDX-License-Identifier: MIT */
/* Writes what comes through a pipe to the file that was standard error. Started by main() before
 * anything else exists. A write to a file waits for its disk, and nothing can be asked beforehand:
 * poll(2) says that files are always writable. A process, and not a thread, because a thread that
 * sleeps in the kernel without interruption would keep the supervisor from executing itself anew,
 * and from ending; and because children log there, too. The pipe is the bounded queue: what doesn't
 * fit is dropped and counted by whoever logs (common/log.c). Must never keep a descriptor of the
 * supervisor, which would outlive it on a disk that hangs. */
#include "supervisor/system/log_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"

#define PIPE_WANTED (1 << 20) /* bytes; some ten thousand lines */
#define FINISH_NS   NS_PER_S
#define LOOK_NS     (5 * NS_PER_MS)

/* ---- the process ---- */

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

static uint64_t count_lines(const char *bytes, size_t size)
{
    uint64_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += bytes[i] == '\n';
    return count;
}

struct loss {
    uint64_t lines;
    int error;
};

static int tell_loss(int file, struct loss *loss)
{
    char time[LOG_TIME_SIZE], line[128 + LOG_TIME_SIZE];
    if (loss->lines == 0)
        return 0;
    log_print_time(time, sizeof time);
    int length = snprintf(line, sizeof line,
                          "%sholdfastd: warning: about %llu lines of this log are lost: %s\n", time,
                          (unsigned long long)loss->lines, strerror(-loss->error));
    int error = write_all(file, line, (size_t)length);
    if (!error)
        *loss = (struct loss){0};
    return error;
}

/* Until nobody is left who could write into the pipe. */
static void copy(int from, int file)
{
    static char bytes[1 << 16];
    struct loss loss = {0};
    for (;;) {
        ssize_t length = read(from, bytes, sizeof bytes);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            return;
        int error = tell_loss(file, &loss);
        if (!error)
            error = write_all(file, bytes, (size_t)length);
        if (error) {
            loss.lines += count_lines(bytes, (size_t)length);
            loss.error = error;
        }
    }
}

/* Signals that end the service are not for it: it ends when everybody who logs has ended. */
_Noreturn static void be_writer(int from)
{
    enum { FROM = 0, FILE_FD = 1, FIRST_OTHER = 2 };
    setpgid(0, 0);
    prctl(PR_SET_NAME, "holdfast-log");
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    if (dup2(STDERR_FILENO, FILE_FD) < 0 || dup2(from, FROM) < 0 ||
        close_range(FIRST_OTHER, ~0U, 0) < 0 || chdir("/") < 0)
        _exit(EXIT_FAILURE);
    copy(FROM, FILE_FD);
    _exit(EXIT_SUCCESS);
}

/* ---- its supervisor ---- */

static int original = -1; /* the file itself; -1 when this program was executed anew meanwhile */

static bool is_file(int fd)
{
    struct stat about;
    return fstat(fd, &about) == 0 && (S_ISREG(about.st_mode) || S_ISBLK(about.st_mode));
}

int log_writer_start(void)
{
    int ends[2] = {-1, -1};
    if (!is_file(STDERR_FILENO))
        return 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    /* An unprivileged user has a limit; the usual 64 KiB are a queue, too. */
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_WANTED);
    pid_t pid = fork();
    if (pid == 0)
        be_writer(ends[0]);
    int error = pid < 0 ? -errno : 0;
    if (!error)
        original = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (!error && dup2(ends[1], STDERR_FILENO) < 0)
        error = -errno;
    fd_close_all(ends, 2);
    return error;
}

/* By waiting for any child: after an upgrade its pid isn't known, and no other child is left. */
void log_writer_finish(void)
{
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    monotonic begun = monotonic_now();
    int instead = original >= 0 ? original : open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (instead < 0 || dup2(instead, STDERR_FILENO) < 0)
        close(STDERR_FILENO);
    fd_close(&instead);
    while (waitpid(-1, NULL, WNOHANG) >= 0 && monotonic_since(monotonic_now(), begun) < FINISH_NS)
        nanosleep(&pause, NULL);
}
