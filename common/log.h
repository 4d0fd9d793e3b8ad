/* SPDX-License-Identifier: MIT */
/* Messages to people: one line per event on stderr. (What a channel records is not this log.) Under
 * systemd each line carries its priority as "<N>" (sd-daemon(3)), elsewhere a time and a word. Only
 * those who decide call this: supervisor/ and worker/, never common/. */
#ifndef HOLDFAST_COMMON_LOG_H
#define HOLDFAST_COMMON_LOG_H

#include <stdbool.h>

/* The priorities of syslog(3). */
enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7,
};

/* who: "holdfastd", "archive" or "channel engine"; kept as a copy. Reads $JOURNAL_STREAM and
 * $HOLDFAST_DEBUG. Call it again when standard error has become something else; never while
 * another thread logs. */
void log_open(const char *who);

/* Back to standard error itself: no descriptor is kept besides it. */
void log_close(void);

/* Does standard error lead to the journal? Not only if the environment says so: it is inherited by
 * programs whose output goes elsewhere, which is why it names the stream. */
bool log_is_journal(void);

/* One write(2) per line, cut at 1 KiB. Safe from several threads. A line that there is no room for
 * is dropped, and the next one that fits is preceded by one that says how many were. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
