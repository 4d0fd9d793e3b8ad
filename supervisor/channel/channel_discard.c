/* SPDX-License-Identifier: MIT */
/* Counts what is lost with a socket: its queue may hold a million datagrams, and this process must
 * not stand still over them. Called by the state machine when it lets go of the socket. Nobody has
 * a worker on it any more. */
#include "supervisor/channel/channel_discard.h"

#include "common/log.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/hold/hold_sockets.h"
#include "supervisor/system/slices.h"

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

static bool take_slice(void *data)
{
    struct channel *channel = data;
    if (!take_turn(channel))
        return true;
    channel_discard_cancel(channel);
    channel->discard.done(channel);
    return false;
}

bool channel_discard_begin(struct channel *channel, void (*done)(struct channel *channel))
{
    struct channel_discard *discard = &channel->discard;
    discard->count = 0;
    discard->began = monotonic_now();
    discard->done = done;
    if (take_turn(channel))
        return true;
    if (slices_begin(&discard->slices, channel->host->event, take_slice, channel) >= 0)
        return false;
    log_error("channel %s: no memory to count what else the kernel had queued: it is lost "
              "uncounted",
              channel->spec->name);
    tell(channel);
    return true;
}

bool channel_discard_is_under_way(const struct channel *channel)
{
    return slices_under_way(&channel->discard.slices);
}

void channel_discard_cancel(struct channel *channel)
{
    slices_end(&channel->discard.slices);
}
