/* SPDX-License-Identifier: MIT */
/* Speaks to the service manager's socket. Used by the status line and the descriptor store. Must
 * never block, whatever the manager does, nor fall silent for want of descriptors: it has one for
 * that from the beginning. */
#include "supervisor/system/manager.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "common/fdpass.h"
#include "common/monotonic.h"

static int notify_socket = -1;

bool manager_is_there(void)
{
    return getenv("NOTIFY_SOCKET") != NULL;
}

int manager_open(void)
{
    if (notify_socket < 0 && manager_is_there())
        notify_socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return notify_socket >= 0 || !manager_is_there() ? 0 : -errno;
}

static int say(const struct sockaddr_un *address, socklen_t length, const char *text, int fd)
{
    struct iovec part = {(void *)text, strlen(text)};
    int error = manager_open();
    if (error < 0)
        return error;
    /* Each time: a manager that was executed again may listen at a socket of the same name. */
    if (connect(notify_socket, (const struct sockaddr *)address, length) < 0)
        return -errno;
    return fdpass_send(notify_socket, &part, 1, &fd, fd >= 0 ? 1 : 0);
}

/* Nothing that this process could wait for is missing when nobody listens, or it may not speak. */
static bool passes(int error)
{
    return error == -EAGAIN || error == -EINTR || error == -EMFILE || error == -ENFILE ||
           error == -ENOBUFS || error == -ENOMEM || error == -ETOOMANYREFS;
}

int manager_notify(const char *text, int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");

    if (!path || (path[0] != '/' && path[0] != '@'))
        return -ENOTCONN;
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path)
        return -ENOTCONN;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* the abstract namespace, unix(7) */
    int error =
        say(&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length), text, fd);
    return passes(error) ? -EAGAIN : error;
}

/* ---- the watchdog ---- */

static int on_watchdog(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct watchdog *watchdog = userdata;
    (void)source;
    (void)time_us;
    /* A manager that is busy is told again soon: it may read on just before its patience ends. */
    uint64_t delay = manager_notify("WATCHDOG=1", -1) == -EAGAIN ? watchdog->interval_ns / 8
                                                                 : watchdog->interval_ns;
    return timer_arm(&watchdog->timer, watchdog->event, delay, on_watchdog, watchdog);
}

/* Not sd_event_set_watchdog(3): it speaks through sd_notify(3), which waits in the kernel for a
 * manager whose queue is full. */
int watchdog_start(struct watchdog *watchdog, sd_event *event)
{
    uint64_t limit_us = 0;
    int wanted = sd_watchdog_enabled(0, &limit_us);
    if (wanted <= 0)
        return wanted;
    *watchdog = (struct watchdog){.event = event, .interval_ns = limit_us / 2 * NS_PER_US};
    return timer_arm(&watchdog->timer, event, 0, on_watchdog, watchdog);
}

void watchdog_stop(struct watchdog *watchdog)
{
    timer_disarm(&watchdog->timer);
}
