/* SPDX-License-Identifier: MIT */
/* Tells the gate of a channel: that it is there, which ring it has now, that it has none. Called
 * after whatever may have changed that. Must never lend a ring that is still to be filled from an
 * older one, nor pass off numbers as the log's that it has yet to learn, nor keep anything from
 * happening because the gate can't be told. */
#include "supervisor/channel/channel_reading.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/read_wake.h"
#include "supervisor/gate/gate_client.h"
#include "supervisor/hold/hold_ring.h"

bool channel_reading_is_enabled(const struct channel *channel)
{
    const struct gate_client *gate = channel->host->gate;
    return gate && gate_client_is_enabled(gate) && channel->reading.index < READ_WAKE_CHANNELS;
}

static void describe(const struct channel *channel, struct message_channel_lent *ret)
{
    const struct channel_spec *spec = channel->spec;
    memset(ret, 0, sizeof *ret);
    snprintf(ret->channel, sizeof ret->channel, "%s", spec->name);
    channel_spec_print_listen(spec, ret->listen, sizeof ret->listen);
    ret->wake_index = channel->reading.index;
    ret->records = spec->record.enabled != 0;
    ret->settled = channel_has_log_numbers(channel);
    ret->ring = hold_ring_number(&channel->hold);
    ret->has_ring = ret->ring != 0;
    ret->publishes = channel_spec_is_local(spec);
    ret->publishers = spec->publishers.group;
}

static int lend(struct channel *channel, const struct message_channel_lent *lent)
{
    int ring = lent->has_ring ? hold_ring_lend(&channel->hold) : -1;
    int error = lent->has_ring && ring < 0 ? ring : 0;
    if (error == 0)
        error = gate_client_lend(channel->host->gate, lent, ring);
    fd_close(&ring);
    return error;
}

/* What the configuration doesn't have any more is for nobody to read. */
static bool is_announced(const struct channel *channel)
{
    return channel_reading_is_enabled(channel) && !channel->former.removed;
}

void channel_reading_follow(struct channel *channel)
{
    struct channel_reading *reading = &channel->reading;
    struct message_channel_lent now;
    if (!is_announced(channel))
        return;
    describe(channel, &now);
    reading->behind = false;
    if (reading->told && memcmp(&now, &reading->lent, sizeof now) == 0)
        return;
    int error = lend(channel, &now);
    reading->told = error == 0;
    reading->lent = now;
    reading->behind = error == -EAGAIN;
    if (error == 0 || error == -ENOTCONN || error == -EPIPE || error == -EAGAIN) {
        reading->failed = false;
        return;
    }
    if (!reading->failed)
        log_error("channel %s: the gate can't be lent it: %s; readers wait, and it is tried again",
                  channel->spec->name, strerror(-error));
    reading->failed = true;
}

void channel_reading_look(struct channel *channel)
{
    if (channel->reading.behind)
        channel_reading_follow(channel);
}

void channel_reading_begin(struct channel *channel)
{
    struct message_channel_lent bare;
    channel->reading.told = false;
    channel_reading_follow(channel);
    if (!channel->reading.failed)
        return;
    describe(channel, &bare); /* there is such a channel all the same; its ring comes later */
    bare.has_ring = 0;
    bare.ring = 0;
    gate_client_lend(channel->host->gate, &bare, -1);
}
