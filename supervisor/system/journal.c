/* SPDX-License-Identifier: MIT */
/* One datagram per entry to journald's socket, "FIELD=value" lines. Called for what is worth
 * searching by field. */
#include "supervisor/system/journal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/fd.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

void journal_begin(struct journal_entry *entry, enum log_level level, const char *message)
{
    entry->length = 0;
    journal_add(entry, "MESSAGE", "%s", message);
    journal_add(entry, "PRIORITY", "%d", (int)level);
    journal_add(entry, "SYSLOG_IDENTIFIER", "holdfastd");
}

void journal_add(struct journal_entry *entry, const char *field, const char *format, ...)
{
    size_t room = sizeof entry->bytes - entry->length;
    char *start = entry->bytes + entry->length;
    va_list arguments;

    int name = snprintf(start, room, "%s=", field);
    if (name < 0 || (size_t)name >= room)
        return;
    va_start(arguments, format);
    int value = vsnprintf(start + name, room - (size_t)name, format, arguments);
    va_end(arguments);
    size_t total = (size_t)name + (value > 0 ? (size_t)value : 0);
    if (value < 0 || total + 1 > room)
        return;
    for (size_t i = 0; i < total; i++)
        if (start[i] == '\n')
            start[i] = ' '; /* a line break would begin another field */
    start[total] = '\n';
    entry->length += total + 1;
}

bool journal_send(const struct journal_entry *entry)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET};
    if (!log_is_journal())
        return false;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    ssize_t sent = sendto(fd, entry->bytes, entry->length, MSG_DONTWAIT | MSG_NOSIGNAL,
                          (const struct sockaddr *)&address, sizeof address);
    fd_close(&fd);
    return sent == (ssize_t)entry->length;
}
