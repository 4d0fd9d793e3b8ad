/* SPDX-License-Identifier: MIT */
/* Looks at what a stop has still to deal with. Asked by the state machine when no worker has the
 * hold. Must never take a damaged ring for a reason to throw away what the socket has. */
#include "supervisor/channel/channel_leftovers.h"

#include "supervisor/hold/hold_ring.h"

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

bool channel_leftovers_need_a_ring(const struct channel *channel)
{
    /* Those who refused the ring have not tried. */
    return may_try(channel, CHANNEL_DRAINS_MAX + 1) && channel->lent.ring_refused &&
           has_queue(channel);
}
