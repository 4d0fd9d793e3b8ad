/* SPDX-License-Identifier: MIT */
/* Structured entries for the systemd journal, by its native protocol (systemd.journal-fields(7)).
 * Unlike sd_journal_send(3) this never blocks: a journal that is stuck must not stop the
 * supervisor. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_JOURNAL_H
#define HOLDFAST_SUPERVISOR_SYSTEM_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "common/log.h"

struct journal_entry {
    size_t length;
    char bytes[4096];
};

void journal_begin(struct journal_entry *entry, enum log_level level, const char *message);
/* A value is one line; what does not fit is left out. */
void journal_add(struct journal_entry *entry, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* false when this process's output does not go to a journal, or the journal did not take it: log it
 * plainly then. */
bool journal_send(const struct journal_entry *entry);

#endif
