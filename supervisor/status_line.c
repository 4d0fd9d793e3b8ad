/* SPDX-License-Identifier: MIT */
/* Tells the service manager how things stand, in one sentence. Called after every change of a
 * channel's state, which may come by the thousand: counting is done where states change, composing
 * the sentence waits a little. */
#include "supervisor/status_line.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "supervisor/channel/channel_former.h"
#include "supervisor/system/manager.h"
#include "supervisor/system/timer.h"

#define STATUS_DELAY_NS (100 * NS_PER_MS)

static const struct channel *find_troubled(const struct channels *channels)
{
    const struct channel *found = NULL;
    for (size_t i = 0; i < channels->count; i++) {
        const struct channel *channel = channels->list[i];
        if (channel->life.wanted && channel->life.state == CHANNEL_FAILED)
            return channel;
        if (channel->life.wanted && !found && channel->life.state == CHANNEL_BACKOFF)
            found = channel;
    }
    return found;
}

static size_t count_gone(const struct channels *channels)
{
    size_t count = 0;
    for (size_t i = 0; i < channels->count; i++)
        count += channel_former_is_gone(channels->list[i]) ? 1 : 0;
    return count;
}

static void compose(const struct channels *channels, char *text, size_t size)
{
    const struct channel_host *host = channels->host;
    size_t running = host->counts.in_state[CHANNEL_RUNNING];
    size_t gone = count_gone(channels), count = channels->count - gone;
    size_t stopped = host->counts.in_state[CHANNEL_STOPPED] - gone;
    if (host->phase >= PHASE_STOPS) {
        snprintf(text, size, "stopping: %zu of %zu channels stopped, %zu segments to seal", stopped,
                 count, host->archive->seal_count);
        return;
    }
    int length = snprintf(text, size, "%zu of %zu channels running", running, count);
    if (stopped > 0)
        length += snprintf(text + length, size - (size_t)length, ", %zu stopped", stopped);
    const struct channel *troubled = find_troubled(channels);
    if (troubled)
        snprintf(text + length, size - (size_t)length, "; %s: %.100s%s", troubled->spec->name,
                 troubled->life.cause, strlen(troubled->life.cause) > 100 ? "..." : "");
}

static int on_timer(sd_event_source *source, uint64_t time_us, void *userdata);

static void tell_later(struct status_line *line)
{
    timer_arm(&line->timer, line->channels->host->event, STATUS_DELAY_NS, on_timer, line);
}

static bool must_tell_ready(const struct status_line *line)
{
    return !line->ready_told && line->channels->host->counts.unreported == 0;
}

/* Tell READY and STOPPING (once) and STATUS (when changed); what the manager can't take now is told
 * a little later. */
static void tell(struct status_line *line)
{
    char text[sizeof line->text], message[sizeof text + 32];
    bool ready = must_tell_ready(line) && line->channels->host->phase < PHASE_STOPS;

    compose(line->channels, text, sizeof text);
    bool stopping = !line->stopping_told && line->channels->host->phase >= PHASE_STOPS;
    if (!ready && !stopping && strcmp(text, line->text) == 0)
        return;
    snprintf(message, sizeof message, "%s%sSTATUS=%s", ready ? "READY=1\n" : "",
             stopping ? "STOPPING=1\n" : "", text);
    if (manager_notify(message, -1) == -EAGAIN) {
        tell_later(line);
        return;
    }
    memcpy(line->text, text, sizeof text);
    if (ready)
        log_notice("ready: %s", text);
    line->ready_told |= ready;
    line->stopping_told |= stopping;
}

static int on_timer(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    tell(userdata);
    return 0;
}

void status_line_changed(struct status_line *line)
{
    if (must_tell_ready(line))
        tell(line); /* whoever waits for READY waits no longer than it takes */
    else if (!timer_is_armed(&line->timer))
        tell_later(line);
}

void status_line_stopping(struct status_line *line)
{
    tell(line);
}

void status_line_init(struct status_line *line, const struct channels *channels)
{
    *line = (struct status_line){.channels = channels};
}

void status_line_stop(struct status_line *line)
{
    timer_disarm(&line->timer);
}
