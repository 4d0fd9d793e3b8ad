/* SPDX-License-Identifier: MIT */
/* Log lines on stderr: one line, one write. Called by the supervisor, the archive and channel
 * workers. A slow reader must not hold them up. Stderr itself can't be made non-blocking, because
 * it is shared with others, so a socket is sent to without waiting, and a pipe or a terminal is
 * opened once more, for a description of our own. Where that is refused (a pipe of another user),
 * poll(2) is asked first, and a write waits if somebody else fills the pipe just in between. Files
 * have no such way: the supervisor puts a pipe before them (log_writer.c).
 *
 * Where stderr leads to the journal, lines are sent to it by its own protocol, which has fields,
 * and by stderr only when that fails. */
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
static int log_journal_fd = -1;
static bool log_debug_wanted;
static atomic_uint log_lost; /* lines that nobody took, since the last one that somebody took */

static bool is_stream(const struct stat *about, const char *stream)
{
    unsigned long long device, inode;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && about->st_dev == device &&
           about->st_ino == inode;
}

/* Does standard error lead to the journal? Not only if the environment says so: it is inherited by
 * programs whose output goes elsewhere, which is why it names the stream. */
static bool is_journal(void)
{
    struct stat about;
    return fstat(STDERR_FILENO, &about) == 0 && is_stream(&about, getenv("JOURNAL_STREAM"));
}

void log_close(void)
{
    if (log_fd != STDERR_FILENO)
        fd_close(&log_fd);
    log_fd = STDERR_FILENO;
    fd_close(&log_journal_fd);
}

static void settle(void)
{
    if (log_journal_fd >= 0)
        journal_settle(log_journal_fd);
}

static void open_journal(void)
{
    static bool settles;
    log_to_journal = is_journal();
    if (!log_to_journal)
        return;
    log_journal_fd = journal_open();
    settles = settles || atexit(settle) == 0;
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
    open_journal();
    log_debug_wanted = getenv("HOLDFAST_DEBUG") != NULL;
}

size_t log_print_time(char *buffer, size_t size)
{
    struct timespec now;
    struct tm local;
    char whole[32];
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &local);
    long minutes = labs(local.tm_gmtoff) / 60;
    int length = snprintf(buffer, size, "%s.%03ld%c%02ld:%02ld ", whole, now.tv_nsec / 1000000,
                          local.tm_gmtoff < 0 ? '-' : '+', minutes / 60, minutes % 60);
    return length < 0 ? 0 : (size_t)length < size ? (size_t)length : size - 1;
}

struct line {
    enum log_level level;
    size_t message; /* where it begins, behind time or priority: "WHO: ..." */
    size_t body;    /* ... and where what is told begins */
    size_t length;  /* with the line's end */
    char text[LINE_SIZE];
};

static void print_prefix(struct line *line)
{
    static const char *const words[] = {[LOG_LEVEL_ERROR] = "error",
                                        [LOG_LEVEL_WARNING] = "warning",
                                        [LOG_LEVEL_NOTICE] = "notice",
                                        [LOG_LEVEL_INFO] = "info",
                                        [LOG_LEVEL_DEBUG] = "debug"};
    if (log_to_journal)
        line->message = (size_t)snprintf(line->text, LINE_SIZE, "<%d>", (int)line->level);
    else
        line->message = log_print_time(line->text, LINE_SIZE);
    line->body = line->message + (size_t)snprintf(line->text + line->message,
                                                  LINE_SIZE - line->message, "%s: %s%s", log_who,
                                                  log_to_journal ? "" : words[line->level],
                                                  log_to_journal ? "" : ": ");
}

static void __attribute__((format(printf, 2, 0)))
print_line(struct line *line, const char *format, va_list arguments)
{
    print_prefix(line);
    int body = vsnprintf(line->text + line->body, LINE_SIZE - 1 - line->body, format, arguments);
    size_t length = line->body + (body > 0 ? (size_t)body : 0);
    if (length > LINE_SIZE - 2)
        length = LINE_SIZE - 2;
    /* One event, one line: also when a peer's text is quoted in it. */
    for (size_t i = 0; i < length; i++)
        if (line->text[i] == '\n' || line->text[i] == '\r')
            line->text[i] = ' ';
    line->text[length++] = '\n';
    line->text[length] = '\0';
    line->length = length;
}

/* Of "channel NAME: ..." the name and its length; 0 when it begins otherwise. */
static int find_channel(const char *text, const char **ret_name)
{
    static const char word[] = "channel ";
    if (strncmp(text, word, sizeof word - 1) != 0)
        return 0;
    *ret_name = text + sizeof word - 1;
    size_t length = strcspn(*ret_name, ": ");
    return strncmp(*ret_name + length, ": ", 2) == 0 ? (int)length : 0;
}

static bool send_to_journal(struct line *line)
{
    struct journal_entry entry;
    const char *name = "";
    line->text[line->length - 1] = '\0';
    journal_begin(&entry, (int)line->level, line->text + line->message);
    int length = find_channel(line->text + line->body, &name);
    if (length == 0)
        length = find_channel(line->text + line->message, &name);
    if (length > 0)
        journal_add(&entry, "HOLDFAST_CHANNEL", "%.*s", length, name);
    line->text[line->length - 1] = '\n';
    return journal_send(log_journal_fd, &entry);
}

bool log_entry(const struct journal_entry *entry)
{
    return log_journal_fd >= 0 && journal_send(log_journal_fd, entry);
}

/* A reader that is gone is asked for beforehand: writing would raise SIGPIPE where that isn't
 * ignored. */
static bool put(struct line *line)
{
    struct pollfd writable = {.fd = log_fd, .events = POLLOUT};
    if (log_journal_fd >= 0 && send_to_journal(line))
        return true;
    if (log_to_socket)
        return send(log_fd, line->text, line->length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
    return poll(&writable, 1, 0) == 1 && writable.revents == POLLOUT &&
           write(log_fd, line->text, line->length) >= 0;
}

__attribute__((format(printf, 2, 3))) static bool print(enum log_level level, const char *format,
                                                        ...)
{
    struct line line;
    va_list arguments;
    line.level = level;
    va_start(arguments, format);
    print_line(&line, format, arguments);
    va_end(arguments);
    return put(&line);
}

void log_line(enum log_level level, const char *format, ...)
{
    struct line line;
    va_list arguments;

    if (level == LOG_LEVEL_DEBUG && !log_debug_wanted)
        return;
    line.level = level;
    va_start(arguments, format);
    print_line(&line, format, arguments);
    va_end(arguments);
    unsigned lost = atomic_exchange(&log_lost, 0);
    if (lost > 0 && print(LOG_LEVEL_WARNING,
                          "%u lines that belong here are lost: what takes this log was too slow, "
                          "or gone",
                          lost))
        lost = 0;
    if (lost > 0 || !put(&line))
        atomic_fetch_add(&log_lost, lost + 1);
}
