/* SPDX-License-Identifier: MIT */
/* Speaks to the service manager's socket. Used by the status line and the descriptor store. Must
 * never block, whatever the manager does. */
#include "supervisor/system/manager.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/fd.h"
#include "common/fdpass.h"

bool manager_is_there(void)
{
    return getenv("NOTIFY_SOCKET") != NULL;
}

int manager_notify(const char *text, int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct iovec part = {(void *)text, strlen(text)};
    const char *path = getenv("NOTIFY_SOCKET");

    if (!path || (path[0] != '/' && path[0] != '@'))
        return -ENOTCONN;
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path)
        return -ENOTCONN;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* the abstract namespace, unix(7) */
    int socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (socket_fd < 0)
        return -errno;
    int error = connect(socket_fd, (const struct sockaddr *)&address,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0
                    ? -errno
                    : fdpass_send(socket_fd, &part, 1, &fd, fd >= 0 ? 1 : 0);
    fd_close(&socket_fd);
    return error;
}

int manager_serve_watchdog(sd_event *event)
{
    int error = sd_event_set_watchdog(event, true);
    return error < 0 ? error : 0;
}
