/* SPDX-License-Identifier: MIT */
/* Tells the service manager how things stand, in one sentence. Called after every change of a channel's state, which
 * may come by the thousand: counting is done in change_state(), composing the sentence waits a little. */
#include "supervisor/notify.h"

#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "common/log.h"

#define STATUS_DELAY_NS (100 * NS_PER_MS)

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
    int length = snprintf(text, size, "%zu of %zu channels running", running, supervisor->channel_count);
    if (stopped > 0)
        length += snprintf(text + length, size - (size_t)length, ", %zu stopped", stopped);
    const struct channel *troubled = find_troubled(supervisor);
    if (troubled)
        snprintf(text + length, size - (size_t)length, "; %s: %s", troubled->spec->name, troubled->state_cause);
}

static void send_status(struct supervisor *supervisor)
{
    char text[sizeof supervisor->status_text];
    compose(supervisor, text, sizeof text);
    if (strcmp(text, supervisor->status_text) == 0)
        return;
    memcpy(supervisor->status_text, text, sizeof text);
    sd_notifyf(0, "STATUS=%s", text);
}

static int on_status(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    send_status(userdata);
    return 0;
}

void notify_changed(struct supervisor *supervisor)
{
    int enabled = SD_EVENT_OFF;
    if (!supervisor->ready_notified && supervisor->unreported == 0 && !supervisor->stopping) {
        supervisor->ready_notified = true;
        compose(supervisor, supervisor->status_text, sizeof supervisor->status_text);
        sd_notifyf(0, "READY=1\nSTATUS=%s", supervisor->status_text);
        log_notice("ready: %s", supervisor->status_text);
        return;
    }
    if (supervisor->status_timer)
        sd_event_source_get_enabled(supervisor->status_timer, &enabled);
    if (enabled == SD_EVENT_OFF)
        supervisor_arm(supervisor, &supervisor->status_timer, STATUS_DELAY_NS, on_status, supervisor);
}

void notify_stopping(struct supervisor *supervisor)
{
    sd_notify(0, "STOPPING=1");
    send_status(supervisor);
}

void notify_stop(struct supervisor *supervisor)
{
    supervisor->status_timer = sd_event_source_disable_unref(supervisor->status_timer);
}
