/* SPDX-License-Identifier: MIT */
/* Tells of a channel that is silent for longer than its user expects. Called by the regular look.
 * Must change nothing about the channel: silence may be the sender's. Its multicast membership
 * alone is renewed, once for each silence, because a switch may have forgotten it. */
#include "supervisor/channel/channel_silence.h"

#include "common/log.h"
#include "common/units.h"
#include "supervisor/hold/membership.h"

uint64_t channel_silence_of(const struct channel *channel, monotonic now)
{
    uint64_t since = monotonic_since(now, channel->silence.since);
    bool expects = channel->spec->expect_ns > 0 && channel->life.state == CHANNEL_RUNNING &&
                   channel->silence.since.ns != 0;
    return expects && since > channel->spec->expect_ns ? since : 0;
}

void channel_silence_look(struct channel *channel, monotonic now)
{
    struct channel_silence *silence = &channel->silence;
    uint64_t received = channel->ledger.carried.value[COUNTER_received] +
                        channel->ledger.last_seen.value[COUNTER_received];
    char text[32];

    if (channel->life.state != CHANNEL_RUNNING || received != silence->received ||
        silence->since.ns == 0) {
        if (silence->told && received != silence->received)
            log_notice("channel %s: it receives again", channel->spec->name);
        *silence = (struct channel_silence){.received = received, .since = now};
        return;
    }
    if (silence->told || channel_silence_of(channel, now) == 0)
        return;
    units_human_duration(channel->spec->expect_ns, text, sizeof text);
    log_warning(
        "channel %s: nothing received for more than %s, which is what `expect` allows: is the "
        "sender running, and is it this address that it sends to?",
        channel->spec->name, text);
    membership_renew(&channel->hold, channel->spec);
    silence->told = true;
}
