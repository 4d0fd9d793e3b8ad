/* SPDX-License-Identifier: MIT */
/* Reads what workers count in their ring and keeps the sum of rings that are gone. Called by the
 * state machine, by the regular look and for status. Must believe nothing that a worker left in the
 * ring without a check: it may have died in the middle of writing it. */
#include "supervisor/channel/channel_ledger.h"

#include "common/channel_page.h"
#include "common/channel_page_counters.h"
#include "common/channel_page_places.h"
#include "common/inflight_delivered.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "common/ring.h"
#include "supervisor/channel/channel_history.h"
#include "supervisor/hold/hold.h"
#include "supervisor/hold/hold_ring.h"

/* Looked at once a second: at least two looks. */
#define STUCK_NS (2 * NS_PER_S)

static void counters_add(struct counters *to, const struct counters *what)
{
    for (int i = 0; i < COUNTER_COUNT; i++)
        to->value[i] += what->value[i];
}

bool channel_ledger_look(struct channel *channel)
{
    struct channel_ledger *ledger = &channel->ledger;
    struct counters now = {0};
    uint64_t pending;
    if (!channel->hold.page)
        return true;
    if (atomic_load(&channel->hold.page->private.converted) == RING_TO_BE_CONVERTED)
        return true; /* what the older ring says was read when it was restored */
    if (!channel_page_counters(channel->hold.page, channel->spec, &channel->hold.geometry, &now,
                               &pending)) {
        if (ledger->unreadable_since.ns == 0)
            ledger->unreadable_since = monotonic_now();
        return false;
    }
    ledger->unreadable_since = (monotonic){0};
    ledger->last_seen = now;
    ledger->last_pending = pending;
    uint64_t end = ledger->ring_start_seq + now.value[COUNTER_received];
    if (end > ledger->seq_end && end <= INT64_MAX)
        ledger->seq_end = end;
    return true;
}

bool channel_ledger_is_stuck(const struct channel *channel, monotonic now)
{
    monotonic since = channel->ledger.unreadable_since;
    return since.ns && channel->hold.page && monotonic_since(now, since) >= STUCK_NS;
}

bool channel_ledger_read(struct channel *channel, struct counters *ret, uint64_t *ret_pending)
{
    const struct channel_ledger *ledger = &channel->ledger;
    bool readable = channel_ledger_look(channel);
    *ret = ledger->carried;
    counters_add(ret, &ledger->last_seen);
    ret->value[COUNTER_restarts] = ledger->restarts;
    /* A datagram tells what was dropped before it: of what was dropped since, nobody does yet. */
    ret->value[COUNTER_kernel_dropped] +=
        hold_ring_untold_drops(&channel->hold, ledger->last_seen.value[COUNTER_kernel_dropped]);
    *ret_pending = ledger->last_pending;
    return readable;
}

/* What the kernel had handed to the last worker when it died, and no successor will publish. */
static void take_unpublished(struct channel *channel)
{
    if (!channel->hold.page)
        return;
    uint32_t count = inflight_unpublished(channel->hold.page, &channel->hold.geometry);
    channel->ledger.last_seen.value[COUNTER_received] += count;
    if (channel->spec->record.enabled)
        channel->ledger.last_pending += count;
}

void channel_ledger_destination(const struct channel *channel, uint32_t index,
                                struct destination_progress *ret)
{
    const struct channel_page *page = channel->hold.page;
    struct destination_progress present = {0};
    int place = hold_find_destination(&channel->hold, channel->spec, index);
    *ret = channel->ledger.destinations[index];
    if (place < 0 || !channel_page_read_destination(page, (uint32_t)place, &present))
        return;
    ret->sent += present.sent;
    ret->dropped += present.dropped;
    ret->repeated += present.repeated;
}

struct channel_newest channel_ledger_newest(const struct channel *channel)
{
    struct channel_newest newest = channel->ledger.newest;
    struct ring_datagram datagram;
    /* Who was just being overtaken by the receiver looks again. */
    for (int i = 0; channel->hold.page && i < 3; i++) {
        if (!ring_peek_newest(channel->hold.page, &channel->hold.geometry, &datagram))
            continue;
        newest = (struct channel_newest){
            .known = true, .seq = datagram.seq, .time_ns = datagram.time_ns};
        ring_source(&datagram, &newest.source);
        break;
    }
    return newest;
}

static void carry_destinations(struct channel *channel)
{
    for (uint32_t i = 0; i < channel->hold.destination_count; i++) {
        struct destination_progress all;
        channel_ledger_destination(channel, i, &all);
        channel->ledger.destinations[i] = all;
    }
}

static uint64_t count_chosen(uint64_t from, uint64_t end, uint64_t every)
{
    return every ? end / every - from / every : 0;
}

/* What came before it was there is not for it. */
static uint64_t first_unsent(const struct channel *channel, uint32_t index, uint64_t next)
{
    int place = hold_find_destination(&channel->hold, channel->spec, index);
    uint64_t from = place < 0 ? 0 : channel_page_sent_from(channel->hold.page, (uint32_t)place);
    return from > next ? from : next;
}

/* What is in the ring and was not offered to everybody yet never will be. */
static void drop_unsent(struct channel *channel)
{
    struct channel_ledger *ledger = &channel->ledger;
    const struct channel_spec *spec = channel->spec;
    const struct channel_page *page = channel->hold.page;
    uint64_t end = ledger->ring_start_seq + ledger->last_seen.value[COUNTER_received];
    struct relay_progress relay;
    struct decimate_progress decimate;
    if (!page || !channel_page_read_relay(page, &relay) ||
        !channel_page_read_decimate(page, &decimate))
        return;
    for (uint32_t i = 0; i < channel->hold.destination_count; i++) {
        bool is_relay = i < spec->relay_count;
        uint64_t next = first_unsent(channel, i, is_relay ? relay.next_seq : decimate.next_seq);
        uint64_t unsent = 0;
        if (next >= ledger->ring_start_seq && next < end)
            unsent =
                is_relay ? end - next : count_chosen(next, end, spec->destinations[i].keep_every);
        ledger->destinations[i].dropped += unsent;
        ledger->last_seen.value[is_relay ? COUNTER_relay_dropped : COUNTER_decimate_lost] += unsent;
    }
}

void channel_ledger_discarded(struct channel *channel, uint64_t count)
{
    channel->ledger.carried.value[COUNTER_kernel_dropped] += count;
}

void channel_ledger_hand_on(struct channel *channel)
{
    channel_ledger_look(channel);
    if (!channel->hold.page)
        channel_ledger_discarded(channel, hold_ring_end_drops(&channel->hold, 0));
    channel_history_save(channel);
}

uint64_t channel_ledger_retire_ring(struct channel *channel)
{
    struct channel_ledger *ledger = &channel->ledger;
    struct counters *last_seen = &ledger->last_seen;
    struct commit_progress commit;
    if (channel->hold.page && !channel->lent.ring_refused)
        channel_ledger_look(channel);
    /* A refused ring is believed only where a check word vouches for it. */
    if (channel->hold.page && channel_page_read_commit(channel->hold.page, &commit) &&
        commit.next_seq > ledger->seq_end && commit.next_seq <= INT64_MAX)
        ledger->seq_end = commit.next_seq;
    take_unpublished(channel);
    drop_unsent(channel);
    if (ledger->last_pending > 0)
        log_warning(
            "channel %s: %llu datagrams were received but not recorded; counted as record_lost",
            channel->spec->name, (unsigned long long)ledger->last_pending);
    last_seen->value[COUNTER_record_lost] += ledger->last_pending;
    uint64_t record_lost = last_seen->value[COUNTER_record_lost];
    last_seen->value[COUNTER_kernel_dropped] +=
        hold_ring_end_drops(&channel->hold, last_seen->value[COUNTER_kernel_dropped]);
    counters_add(&ledger->carried, last_seen);
    carry_destinations(channel);
    ledger->newest = channel_ledger_newest(channel);
    *last_seen = (struct counters){0};
    ledger->last_pending = 0;
    /* Saved before it is let go of: who comes after a death between the two must not count it
     * again, and knows it by its number. */
    if (channel->hold.page)
        ledger->retired_pair = channel->hold.page->public.pair;
    channel_history_save(channel);
    if (channel->hold.page)
        channel_page_retire(channel->hold.page, RING_REPLACED, ledger->seq_end);
    ledger->unreadable_since = (monotonic){0};
    hold_drop_ring(&channel->hold);
    return record_lost;
}
