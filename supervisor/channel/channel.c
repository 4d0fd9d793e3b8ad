/* SPDX-License-Identifier: MIT */
/* Makes and frees channels, at the start and at the end, and says in the log how their state
 * changes. Between them a channel belongs to its state machine. */
#include "supervisor/channel/channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "supervisor/system/slices.h"

#define TOLD_AGAIN_NS (3600 * NS_PER_S)

const char *const channel_state_names[CHANNEL_STATE_COUNT] = {
    "DOWN", "OPENING", "STARTING", "RUNNING", "STOPPING", "BACKOFF", "FAILED", "STOPPED"};

static bool is_worth_a_line(struct channel *channel, enum channel_state from)
{
    struct channel_told *told = &channel->life.told;
    const enum channel_state to = channel->life.state;
    monotonic now = monotonic_now();
    bool is_attempt = from == CHANNEL_BACKOFF && to == CHANNEL_OPENING && told->times > 0 &&
                      channel->life.opening.deaths_in_a_row > 0;
    if (is_attempt) /* what comes of it says more */
        return false;
    if (from != CHANNEL_OPENING || to != CHANNEL_BACKOFF) {
        *told = (struct channel_told){0};
        return true;
    }
    if (strcmp(told->cause, channel->life.cause) != 0)
        *told = (struct channel_told){0};
    memcpy(told->cause, channel->life.cause, sizeof told->cause);
    told->times++;
    if ((told->times & (told->times - 1)) != 0 && monotonic_since(now, told->at) < TOLD_AGAIN_NS)
        return false;
    told->at = now;
    return true;
}

static void log_change(struct channel *channel, enum channel_state from)
{
    enum log_level level = !is_worth_a_line(channel, from)          ? LOG_LEVEL_DEBUG
                           : channel->life.state == CHANNEL_FAILED  ? LOG_LEVEL_ERROR
                           : channel->life.state == CHANNEL_BACKOFF ? LOG_LEVEL_WARNING
                                                                    : LOG_LEVEL_INFO;
    char after[160] = "", delay[32];
    int length = 0;
    units_human_duration(monotonic_since(channel->life.next_start, monotonic_now()), delay,
                         sizeof delay);
    if (channel->life.state == CHANNEL_BACKOFF)
        length = snprintf(after, sizeof after, "; next start in %s", delay);
    if (channel->life.told.times > 1)
        snprintf(after + length, sizeof after - (size_t)length, "; attempt %u",
                 channel->life.told.times);
    log_line(level, "channel %s: %s -> %s: %s%s", channel->spec->name, channel_state_names[from],
             channel_state_names[channel->life.state], channel->life.cause, after);
}

void channel_note_reported(struct channel *channel)
{
    if (!channel->life.reported)
        channel->host->counts.unreported--;
    channel->life.reported = true;
}

void channel_note_state(struct channel *channel, enum channel_state to, const char *cause)
{
    struct channel_counts *counts = &channel->host->counts;
    enum channel_state from = channel->life.state;
    snprintf(channel->life.cause, sizeof channel->life.cause, "%s", cause);
    channel->life.state = to;
    channel->life.since = monotonic_now();
    counts->in_state[from]--;
    counts->in_state[to]++;
    log_change(channel, from);
    if (to == CHANNEL_RUNNING || to >= CHANNEL_BACKOFF)
        channel_note_reported(channel);
}

int channel_new(struct channel_host *host, struct channel_spec *spec, struct channel **ret)
{
    struct channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return -ENOMEM;
    channel->host = host;
    channel->spec = spec;
    channel->life.wanted = true;
    channel->life.since = monotonic_now();
    channel->reading.index = host->made++;
    channel->ledger.destinations =
        calloc(channel_spec_destination_count(spec) + 1, sizeof *channel->ledger.destinations);
    int error = channel->ledger.destinations ? hold_init(&channel->hold, spec) : -ENOMEM;
    if (error < 0) {
        free(channel->ledger.destinations);
        free(channel);
        return error;
    }
    channel->hold.shredder = host->shredder;
    store_add(host->store, &channel->stored, spec->name, &channel->hold);
    host->counts.in_state[CHANNEL_DOWN]++;
    host->counts.unreported++;
    *ret = channel;
    return 0;
}

void channel_free(struct channel *channel)
{
    if (!channel)
        return;
    child_free(channel->lent.worker);
    timer_disarm(&channel->life.timer);
    timer_disarm(&channel->recording.timer);
    slices_end(&channel->discard.slices);
    obituary_list_free(&channel->obituaries);
    stored_free(&channel->stored);
    hold_close(&channel->hold);
    free(channel->ledger.destinations);
    free(channel->former.own);
    free(channel);
}
