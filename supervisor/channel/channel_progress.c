/* SPDX-License-Identifier: MIT */
/* Reads off the shared page and the socket what the restart policy wants to know. Called by the
 * state machine and for status. What a wild worker wrote into the page can make a restart come
 * early, never faster than the policy's own bound; at worst its death counts as one without
 * progress. */
#include "supervisor/channel/channel_progress.h"

#include <stdio.h>

#include "common/channel_page.h"
#include "supervisor/child/restart.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/policy/receive_rate.h"
#include "supervisor/policy/restart_policy.h"

static bool read_mark(const struct channel *channel, struct channel_mark *ret)
{
    const struct channel_page *page = channel->hold.page;
    struct relay_progress relay;
    struct commit_progress commit;
    struct decimate_progress decimate;
    if (!page || !channel_page_read_relay(page, &relay) ||
        !channel_page_read_commit(page, &commit) || !channel_page_read_decimate(page, &decimate))
        return false;
    *ret = (struct channel_mark){
        .known = true,
        .published = atomic_load_explicit(&page->public.published, memory_order_acquire),
        .relayed = relay.next_seq,
        .committed = commit.next_seq,
        .decimated = decimate.next_seq};
    return true;
}

void channel_progress_mark(struct channel *channel)
{
    if (!read_mark(channel, &channel->lent.mark))
        channel->lent.mark = (struct channel_mark){0};
}

/* Everything that was received is dealt with, and the kernel has nothing either. */
static bool had_nothing_to_do(const struct channel *channel, const struct channel_mark *now)
{
    const struct channel_spec *spec = channel->spec;
    struct hold_queue queue;
    return now->relayed == now->published &&
           (!spec->record.enabled || now->committed == now->published) &&
           (spec->decimate_count == 0 || now->decimated == now->published) &&
           hold_ring_queue(&channel->hold, &queue) && queue.used == 0;
}

static bool moved(const struct channel_mark *then, const struct channel_mark *now)
{
    return now->relayed > then->relayed || now->committed > then->committed ||
           now->decimated > then->decimated;
}

bool channel_progress_moved(const struct channel *channel)
{
    const struct channel_mark *then = &channel->lent.mark;
    struct channel_mark now;
    return then->known && read_mark(channel, &now) &&
           (moved(then, &now) || now.published > then->published);
}

static bool made_progress(const struct channel *channel)
{
    const struct channel_mark *then = &channel->lent.mark;
    struct channel_mark now;
    /* One that never came up has shown nothing, whatever there was to do. */
    if (channel->life.restart.running_since.ns == 0 || !then->known || !read_mark(channel, &now))
        return false;
    return moved(then, &now) || had_nothing_to_do(channel, &now);
}

uint64_t channel_progress_stall_budget(const struct channel *channel)
{
    struct hold_queue queue;
    if (!hold_ring_queue(&channel->hold, &queue))
        return RESTART_NO_STALL;
    if (queue.used >= queue.size / 2)
        return 0; /* it presses, whatever the rate was when it was last looked at */
    double lasts = receive_rate_queue_lasts(&channel->ledger.rate, queue.size - queue.used);
    return lasts < 0 || lasts > 1e9 ? RESTART_NO_STALL : (uint64_t)(lasts * 1e9);
}

struct restart_decision channel_progress_decide(struct channel *channel)
{
    const struct restart_circumstances circumstances = {
        .progress = made_progress(channel),
        .stall_budget_ns = channel_progress_stall_budget(channel),
        .share_wait_ns = restart_share_reserve(&channel->host->share, monotonic_now())};
    return restart_decide(&channel->life.restart, &channel->host->settings->restart,
                          &circumstances);
}

const char *channel_progress_given_up(const struct channel *channel, const char *cause)
{
    static char why[sizeof channel->life.cause];
    uint32_t deaths = channel->life.restart.deaths_in_a_row;
    snprintf(why, sizeof why,
             "given up after %u death%s in a row (restart { give_up_after }): `holdfastctl "
             "reset-failed %s` tries again; %s",
             deaths, deaths == 1 ? "" : "s", channel->spec->name, cause);
    return why;
}

uint64_t channel_progress_ready_deadline(const struct channel *channel)
{
    return restart_ready_deadline(channel_progress_stall_budget(channel), channel->life.late_starts,
                                  channel->host->counts.in_state[CHANNEL_STARTING]);
}

uint64_t channel_progress_drain_delay(struct channel *channel, uint64_t most_ns)
{
    uint64_t delay = restart_delay(&channel->life.restart, &channel->host->settings->restart);
    uint64_t share = restart_share_reserve(&channel->host->share, monotonic_now());
    if (delay > most_ns)
        delay = most_ns;
    return delay > share ? delay : share;
}

bool channel_progress_presses(const struct channel *channel)
{
    struct hold_queue queue;
    return hold_ring_queue(&channel->hold, &queue) && queue.used >= queue.size / 2;
}

uint64_t channel_progress_expected_drops(const struct channel *channel, monotonic now)
{
    if (channel->life.state != CHANNEL_BACKOFF || !channel->ledger.rate.known)
        return 0;
    uint64_t wait = monotonic_since(channel->life.next_start, now);
    uint64_t budget = channel_progress_stall_budget(channel);
    if (wait <= budget)
        return 0;
    return (uint64_t)((double)(wait - budget) / 1e9 * channel->ledger.rate.datagrams_per_s);
}
