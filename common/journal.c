/* SPDX-License-Identifier: MIT */
/* One datagram per entry to journald's socket, "FIELD=value" lines. Called by the log, and for what
 * has more to say than a line. */
#include "common/journal.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "common/monotonic.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define SETTLE_MS      100
#define SETTLE_LOOKS   100

void journal_begin(struct journal_entry *entry, int priority, const char *message)
{
    entry->length = 0;
    journal_add(entry, "MESSAGE", "%s", message);
    journal_add(entry, "PRIORITY", "%d", priority);
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

int journal_open(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

bool journal_send(int fd, const struct journal_entry *entry)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET};
    return sendto(fd, entry->bytes, entry->length, MSG_DONTWAIT | MSG_NOSIGNAL,
                  (const struct sockaddr *)&address, sizeof address) == (ssize_t)entry->length;
}

void journal_settle(int fd)
{
    const struct timespec pause = {.tv_nsec = SETTLE_MS * NS_PER_MS / SETTLE_LOOKS};
    int untaken;
    for (int i = 0; i < SETTLE_LOOKS; i++) {
        if (ioctl(fd, SIOCOUTQ, &untaken) < 0 || untaken <= 0)
            return;
        nanosleep(&pause, NULL);
    }
}
