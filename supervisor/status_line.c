/* SPDX-License-Identifier: MIT */
/* Tells the service manager how things stand, in one sentence. Called after every change of a
 * channel's state, which may come by the thousand: counting is done in change_state(), composing
 * the sentence waits a little. */
#include "supervisor/status_line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/fd.h"
#include "common/fdpass.h"
#include "common/log.h"

#define STATUS_DELAY_NS (100 * NS_PER_MS)

int notify_send(const char *text, int fd)
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

static const struct channel *find_troubled(const struct supervisor *supervisor)
{
    const struct channel *found = NULL;
    for (size_t i = 0; i < supervisor->channel_count; i++) {
        const struct channel *channel = supervisor->channels[i];
        if (channel->wanted && channel->state == CHANNEL_FAILED)
            return channel;
        if (channel->wanted && !found && channel->state == CHANNEL_BACKOFF)
            found = channel;
    }
    return found;
}

static void compose(const struct supervisor *supervisor, char *text, size_t size)
{
    size_t running = supervisor->state_counts[CHANNEL_RUNNING];
    size_t stopped = supervisor->state_counts[CHANNEL_STOPPED];
    if (supervisor->stopping) {
        snprintf(text, size, "stopping: %zu of %zu channels stopped, %zu segments to seal", stopped,
                 supervisor->channel_count, supervisor->seal_count);
        return;
    }
    int length =
        snprintf(text, size, "%zu of %zu channels running", running, supervisor->channel_count);
    if (stopped > 0)
        length += snprintf(text + length, size - (size_t)length, ", %zu stopped", stopped);
    const struct channel *troubled = find_troubled(supervisor);
    if (troubled)
        snprintf(text + length, size - (size_t)length, "; %s: %s", troubled->spec->name,
                 troubled->state_cause);
}

static int on_status(sd_event_source *source, uint64_t time_us, void *userdata);

/* Tell READY (once) and STATUS (when changed); what the manager can't take now is told a little
 * later. */
static void tell(struct supervisor *supervisor)
{
    char text[sizeof supervisor->status_text], message[sizeof text + 32];
    bool ready =
        !supervisor->ready_notified && supervisor->unreported == 0 && !supervisor->stopping;

    compose(supervisor, text, sizeof text);
    if (!ready && strcmp(text, supervisor->status_text) == 0)
        return;
    snprintf(message, sizeof message, "%sSTATUS=%s", ready ? "READY=1\n" : "", text);
    if (notify_send(message, -1) == -EAGAIN) {
        supervisor_arm(supervisor, &supervisor->status_timer, STATUS_DELAY_NS, on_status,
                       supervisor);
        return;
    }
    memcpy(supervisor->status_text, text, sizeof text);
    if (ready)
        log_notice("ready: %s", text);
    supervisor->ready_notified |= ready;
}

static int on_status(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    tell(userdata);
    return 0;
}

void notify_changed(struct supervisor *supervisor)
{
    int enabled = SD_EVENT_OFF;
    if (!supervisor->ready_notified && supervisor->unreported == 0) {
        tell(supervisor); /* whoever waits for READY waits no longer than it takes */
        return;
    }
    if (supervisor->status_timer)
        sd_event_source_get_enabled(supervisor->status_timer, &enabled);
    if (enabled == SD_EVENT_OFF)
        supervisor_arm(supervisor, &supervisor->status_timer, STATUS_DELAY_NS, on_status,
                       supervisor);
}

void notify_stopping(struct supervisor *supervisor)
{
    notify_send("STOPPING=1", -1);
    tell(supervisor);
}

void notify_stop(struct supervisor *supervisor)
{
    supervisor->status_timer = sd_event_source_disable_unref(supervisor->status_timer);
}
