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
#include "supervisor/system/reaper.h"

#define PIPE_WANTED (1 << 20) /* bytes; some ten thousand lines */
#define FINISH_NS   NS_PER_S
#define LOOK_NS     (5 * NS_PER_MS)
#define AGAIN_NS    NS_PER_S /* between two of them that don't live long */

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
_Noreturn static void be_writer(int from, int file)
{
    enum { FROM = 0, FILE_FD = 1, FIRST_OTHER = 2 };
    setpgid(0, 0);
    prctl(PR_SET_NAME, "holdfast-log");
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    if (dup2(file, FILE_FD) < 0 || dup2(from, FROM) < 0 || close_range(FIRST_OTHER, ~0U, 0) < 0 ||
        chdir("/") < 0)
        _exit(EXIT_FAILURE);
    copy(FROM, FILE_FD);
    _exit(EXIT_SUCCESS);
}

/* ---- its supervisor ---- */

/* Kept so that another process can take its place, with what is still in the pipe. */
static struct log_writer writer = {.pipe = -1, .file = -1};

static bool is_file(int fd)
{
    struct stat about;
    return fstat(fd, &about) == 0 && (S_ISREG(about.st_mode) || S_ISBLK(about.st_mode));
}

static bool is_pipe(int fd)
{
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISFIFO(about.st_mode);
}

static int start_process(void)
{
    pid_t pid = fork();
    if (pid == 0)
        be_writer(writer.pipe, writer.file);
    if (pid < 0)
        return -errno;
    writer.pid = pid;
    writer.started = monotonic_now();
    return 0;
}

static int make(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    /* An unprivileged user has a limit; the usual 64 KiB are a queue, too. */
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_WANTED);
    writer.file = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    writer.pipe = fd_take(&ends[0]);
    int error = writer.file < 0 ? -errno : start_process();
    if (!error && dup2(ends[1], STDERR_FILENO) < 0)
        error = -errno;
    return error;
}

int log_writer_start(const struct log_writer *before)
{
    int ends[2] = {-1, -1};
    writer = *before;
    if (is_pipe(writer.pipe) && is_file(writer.file))
        return writer.pid > 0 ? 0 : start_process();
    fd_close(&writer.pipe);
    fd_close(&writer.file);
    writer.pid = 0;
    if (!is_file(STDERR_FILENO))
        return 0;
    int error = make(ends);
    fd_close_all(ends, 2);
    return error;
}

const struct log_writer *log_writer_get(void)
{
    return &writer;
}

/* ---- its end ---- */

static void watch(void);

static int on_due(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    (void)userdata;
    int error = start_process();
    if (error < 0) {
        timer_arm(&writer.timer, writer.event, AGAIN_NS, on_due, NULL);
        return 0;
    }
    watch();
    log_error("the process that writes this log has ended; process %d goes on with what was still "
              "to be written",
              (int)writer.pid);
    return 0;
}

static int on_ended(sd_event_source *source, const siginfo_t *end, void *userdata)
{
    bool soon = monotonic_since(monotonic_now(), writer.started) >= AGAIN_NS;
    (void)source;
    (void)end;
    (void)userdata;
    reaper_unwatch(&writer.source);
    writer.pid = 0;
    timer_arm(&writer.timer, writer.event, soon ? 0 : AGAIN_NS, on_due, NULL);
    return 0;
}

static void watch(void)
{
    int error = reaper_watch(writer.event, &writer.source, writer.pid, on_ended, NULL);
    if (error < 0)
        log_warning("nobody watches the process that writes this log: %s", strerror(-error));
}

void log_writer_watch(sd_event *event)
{
    writer.event = event;
    if (writer.pid > 0)
        watch();
}

void log_writer_unwatch(void)
{
    timer_disarm(&writer.timer);
    reaper_unwatch(&writer.source);
}

/* By waiting for any child: no other one is left. */
void log_writer_finish(void)
{
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    monotonic begun = monotonic_now();
    int instead = writer.file >= 0 ? writer.file : open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (instead < 0 || dup2(instead, STDERR_FILENO) < 0)
        close(STDERR_FILENO);
    fd_close(&instead);
    fd_close(&writer.pipe);
    while (waitpid(-1, NULL, WNOHANG) >= 0 && monotonic_since(monotonic_now(), begun) < FINISH_NS)
        nanosleep(&pause, NULL);
}
