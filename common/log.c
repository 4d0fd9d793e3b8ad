/* SPDX-License-Identifier: MIT */
/* Log lines on stderr: one line, one write. Called by the supervisor, the archive and channel
 * workers. A slow reader must not hold them up, so poll(2) is asked first, and where there is no
 * room the line is dropped. That is no promise: stderr is shared with others, so it can't be made
 * non-blocking, and the write waits when somebody else fills the pipe just in between, when a
 * terminal is stopped, and for the disk when stderr is a file. A reader that is gone is an error of
 * the write where SIGPIPE is ignored, as in the supervisor; elsewhere it ends the process. */
#include "common/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char log_who[96] = "holdfast";
static bool log_to_journal;
static bool log_debug_wanted;

void log_open(const char *who)
{
    snprintf(log_who, sizeof log_who, "%s", who);
    log_to_journal = getenv("JOURNAL_STREAM") != NULL;
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

void log_line(enum log_level level, const char *format, ...)
{
    char line[1024];
    va_list arguments;

    if (level == LOG_LEVEL_DEBUG && !log_debug_wanted)
        return;
    int prefix = print_prefix(level, line, sizeof line - 1);
    va_start(arguments, format);
    int body = vsnprintf(line + prefix, sizeof line - 1 - (size_t)prefix, format, arguments);
    va_end(arguments);
    size_t length = (size_t)(prefix + (body > 0 ? body : 0));
    if (length > sizeof line - 2)
        length = sizeof line - 2;
    /* One event, one line: also when a peer's text is quoted in it. */
    for (size_t i = 0; i < length; i++)
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    line[length++] = '\n';

    struct pollfd writable = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&writable, 1, 0) != 1 || !(writable.revents & POLLOUT))
        return;
    if (write(STDERR_FILENO, line, length) < 0)
        return; /* nowhere left to report to */
}
