/* SPDX-License-Identifier: MIT */
/* Structured entries for the systemd journal, by its native protocol (systemd.journal-fields(7)).
 * Unlike sd_journal_send(3) this never blocks: a journal that is stuck must stop nobody. */
#ifndef HOLDFAST_COMMON_JOURNAL_H
#define HOLDFAST_COMMON_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

struct journal_entry {
    size_t length;
    char bytes[4096];
};

/* priority as in syslog(3). */
void journal_begin(struct journal_entry *entry, int priority, const char *message);
/* A value is one line; what does not fit is left out. */
void journal_add(struct journal_entry *entry, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A socket to send from, or -errno. It stays good when the journal is started anew. */
int journal_open(void);

/* false when the journal is away or has no room. */
bool journal_send(int fd, const struct journal_entry *entry);

/* Wait until the journal has taken what was sent from here, but not for long: it looks up which
 * unit a process belongs to when it takes its entry, and can't when the process has ended by then.
 */
void journal_settle(int fd);

#endif
