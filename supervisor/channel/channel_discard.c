/* SPDX-License-Identifier: MIT */
/* Counts what is lost with a socket: its queue may hold a million datagrams, and this process must
 * not stand still over them. Called by the state machine when it lets go of the socket. Nobody has
 * a worker on it any more. */
#include "supervisor/channel/channel_discard.h"

#include "common/log.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/hold/hold_sockets.h"

/* A full buffer takes a second. A socket that could not be muted may be sent to for ever. */
#define LONGEST_NS (5 * NS_PER_S)

static void tell(const struct channel *channel)
{
    unsigned long long count = channel->discard.count;
    if (count == 0)
        return;
    if (channel->lent.bye_received)
        log_notice("channel %s: %llu datagrams came in while it stopped and were not received any "
                   "more; counted as kernel_dropped",
                   channel->spec->name, count);
    else
        log_error("channel %s: %llu datagrams that the kernel had queued are lost with the stop, "
                  "because no worker lived to receive them; counted as kernel_dropped",
                  channel->spec->name, count);
}

static bool take_turn(struct channel *channel)
{
    bool empty;
    uint64_t count = hold_sockets_discard(&channel->hold, &empty);
    channel->discard.count += count;
    channel_ledger_discarded(channel, count);
    if (!empty && monotonic_since(monotonic_now(), channel->discard.began) > LONGEST_NS) {
        log_warning(
            "channel %s: datagrams keep coming in while its socket is let go of; what comes "
            "now is not counted",
            channel->spec->name);
        empty = true;
    }
    if (empty)
        tell(channel);
    return empty;
}

static int on_turn(sd_event_source *source, void *userdata)
{
    struct channel *channel = userdata;
    (void)source;
    if (take_turn(channel)) {
        channel_discard_cancel(channel);
        channel->discard.done(channel);
    }
    return 0;
}

bool channel_discard_begin(struct channel *channel, void (*done)(struct channel *channel))
{
    struct channel_discard *discard = &channel->discard;
    discard->count = 0;
    discard->began = monotonic_now();
    discard->done = done;
    if (take_turn(channel))
        return true;
    int error = sd_event_add_defer(channel->host->event, &discard->source, on_turn, channel);
    if (error >= 0) /* workers and operators come first */
        error = sd_event_source_set_priority(discard->source, SD_EVENT_PRIORITY_IDLE);
    if (error >= 0)
        error = sd_event_source_set_enabled(discard->source, SD_EVENT_ON);
    if (error >= 0)
        return false;
    log_error("channel %s: no memory to count what else the kernel had queued: it is lost "
              "uncounted",
              channel->spec->name);
    tell(channel);
    channel_discard_cancel(channel);
    return true;
}

bool channel_discard_is_under_way(const struct channel *channel)
{
    return channel->discard.source;
}

void channel_discard_cancel(struct channel *channel)
{
    channel->discard.source = sd_event_source_disable_unref(channel->discard.source);
}
