/* SPDX-License-Identifier: MIT */
/* Looks at what a stop has still to deal with. Asked by the state machine when no worker has the
 * hold. Must never take a damaged ring for a reason to throw away what the socket has. */
#include "supervisor/channel/channel_leftovers.h"

#include "supervisor/hold/hold_ring.h"

#define SHORT_PATIENCE_NS (NS_PER_S / 2)

static bool has_queue(const struct channel *channel)
{
    struct hold_queue queue;
    return hold_ring_queue(&channel->hold, &queue) && queue.used > 0;
}

static bool may_try(const struct channel *channel, uint32_t drains_max)
{
    return channel->hold.rx >= 0 && channel->life.drains < drains_max &&
           channel->host->phase != PHASE_HURRIES;
}

/* A ring that a worker used may hold datagrams that are not recorded yet. */
bool channel_leftovers_can_be_drained(const struct channel *channel)
{
    bool ring_used = channel->hold.ring >= 0 && !channel->hold.ring_fresh;
    return may_try(channel, CHANNEL_DRAINS_MAX) && !channel->lent.ring_refused &&
           (ring_used || has_queue(channel));
}

uint64_t channel_leftovers_patience(const struct channel *channel)
{
    const struct channel_former *former = &channel->former;
    const enum phase phase = channel->host->phase;
    if (!channel->lent.never_began || phase == PHASE_HURRIES ||
        (channel->life.wanted && !former->configured))
        return 0;
    /* Only a configuration that is no longer has asked for its end. */
    if (phase == PHASE_RUNS && (former->removed || former->configured))
        return UINT64_MAX;
    uint64_t waited = monotonic_since(monotonic_now(), channel->life.stop_began);
    return waited < CHANNEL_STOP_DEADLINE_NS ? SHORT_PATIENCE_NS : 0;
}

bool channel_leftovers_need_a_ring(const struct channel *channel)
{
    /* Those who refused the ring have not tried. */
    return may_try(channel, CHANNEL_DRAINS_MAX + 1) && channel->lent.ring_refused &&
           has_queue(channel);
}
