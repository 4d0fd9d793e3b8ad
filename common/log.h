/* SPDX-License-Identifier: MIT */
/* Messages to people: one line per event on stderr. (What a channel records is not this log.) Under
 * systemd each goes to the journal as an entry with its priority, elsewhere with date, time and a
 * word. Only those who decide call this: supervisor/ and worker/, never common/.
 *
 * A line about a channel begins with "channel NAME: ", or comes from a process whose `who` is
 * "channel NAME". In the journal it has the field HOLDFAST_CHANNEL then: whoever says which channel
 * it is about has said it to those who search, too. scripts/check-log looks that nobody says it
 * otherwise. */
#ifndef HOLDFAST_COMMON_LOG_H
#define HOLDFAST_COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "common/journal.h"

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

/* To the journal, with fields of its own. false when standard error does not lead there, or the
 * journal did not take it: log it plainly then. */
bool log_entry(const struct journal_entry *entry);

/* "2026-01-17T12:00:00.123+01:00 ": how a line begins elsewhere. */
#define LOG_TIME_SIZE 40
size_t log_print_time(char *buffer, size_t size);

/* One write per line, cut at 1 KiB. Safe from several threads. A line that there is no room for
 * is dropped, and the next one that fits is preceded by one that says how many were. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
