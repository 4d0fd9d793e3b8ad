/* SPDX-License-Identifier: MIT */
/* Log lines on stderr: one line, one write. Called by the supervisor, the archive and channel
 * workers. A slow reader must not hold them up. Stderr itself can't be made non-blocking, because
 * it is shared with others, so a socket is sent to without waiting, and a pipe or a terminal is
 * opened once more, for a description of our own. Where that is refused (a pipe of another user),
 * poll(2) is asked first, and a write waits if somebody else fills the pipe just in between. Files
 * have no such way: the supervisor puts a pipe before them (log_writer.c). */
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"

#define LINE_SIZE 1024

static char log_who[96] = "holdfast";
static int log_fd = STDERR_FILENO;
static bool log_to_socket;
static bool log_to_journal;
static bool log_debug_wanted;
static atomic_uint log_lost; /* lines that nobody took, since the last one that somebody took */

static bool is_stream(const struct stat *about, const char *stream)
{
    unsigned long long device, inode;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && about->st_dev == device &&
           about->st_ino == inode;
}

bool log_is_journal(void)
{
    struct stat about;
    return fstat(STDERR_FILENO, &about) == 0 && is_stream(&about, getenv("JOURNAL_STREAM"));
}

void log_close(void)
{
    if (log_fd != STDERR_FILENO)
        fd_close(&log_fd);
    log_fd = STDERR_FILENO;
}

static void open_description(void)
{
    struct stat about;
    log_close();
    log_to_socket = false;
    if (fstat(STDERR_FILENO, &about) < 0)
        return;
    log_to_socket = S_ISSOCK(about.st_mode);
    if (!S_ISFIFO(about.st_mode) && !isatty(STDERR_FILENO))
        return;
    int own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own >= 0)
        log_fd = own;
}

void log_open(const char *who)
{
    snprintf(log_who, sizeof log_who, "%s", who);
    open_description();
    log_to_journal = log_is_journal();
    log_debug_wanted = getenv("HOLDFAST_DEBUG") != NULL;
}

static int print_prefix(enum log_level level, char *buffer, size_t size)
{
    static const char *const words[] = {[LOG_LEVEL_ERROR] = "error",
                                        [LOG_LEVEL_WARNING] = "warning",
                                        [LOG_LEVEL_NOTICE] = "notice",
                                        [LOG_LEVEL_INFO] = "info",
                                        [LOG_LEVEL_DEBUG] = "debug"};
    if (log_to_journal)
        return snprintf(buffer, size, "<%d>%s: ", (int)level, log_who);
    struct timespec now;
    struct tm local;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    return snprintf(buffer, size, "%02d:%02d:%02d.%03ld %s: %s: ", local.tm_hour, local.tm_min,
                    local.tm_sec, now.tv_nsec / 1000000, log_who, words[level]);
}

static size_t __attribute__((format(printf, 3, 0)))
print_line(enum log_level level, char *line, const char *format, va_list arguments)
{
    int prefix = print_prefix(level, line, LINE_SIZE - 1);
    int body = vsnprintf(line + prefix, LINE_SIZE - 1 - (size_t)prefix, format, arguments);
    size_t length = (size_t)(prefix + (body > 0 ? body : 0));
    if (length > LINE_SIZE - 2)
        length = LINE_SIZE - 2;
    /* One event, one line: also when a peer's text is quoted in it. */
    for (size_t i = 0; i < length; i++)
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    line[length++] = '\n';
    return length;
}

/* A reader that is gone is asked for beforehand: writing would raise SIGPIPE where that isn't
 * ignored. */
static bool put(const char *line, size_t length)
{
    struct pollfd writable = {.fd = log_fd, .events = POLLOUT};
    if (log_to_socket)
        return send(log_fd, line, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
    return poll(&writable, 1, 0) == 1 && writable.revents == POLLOUT &&
           write(log_fd, line, length) >= 0;
}

__attribute__((format(printf, 2, 3))) static bool print(enum log_level level, const char *format,
                                                        ...)
{
    char line[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    size_t length = print_line(level, line, format, arguments);
    va_end(arguments);
    return put(line, length);
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[LINE_SIZE];
    va_list arguments;

    if (level == LOG_LEVEL_DEBUG && !log_debug_wanted)
        return;
    va_start(arguments, format);
    size_t length = print_line(level, line, format, arguments);
    va_end(arguments);
    unsigned lost = atomic_exchange(&log_lost, 0);
    if (lost > 0 && print(LOG_LEVEL_WARNING,
                          "%u lines that belong here are lost: what takes this log was too slow, "
                          "or gone",
                          lost))
        lost = 0;
    if (lost > 0 || !put(line, length))
        atomic_fetch_add(&log_lost, lost + 1);
}
