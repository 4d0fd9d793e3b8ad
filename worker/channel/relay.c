/* SPDX-License-Identifier: MIT */
/* The relay: offers what was just received to every full-rate destination, straight from ring
 * memory, on the receiver's thread. Its position and all its counters flip together, so that a
 * successor knows where to go on. */
#include "worker/channel/relay.h"

#include <errno.h>
#include <stdlib.h>

#include "common/channel_page.h"
#include "common/channel_page_places.h"
#include "common/ring.h"
#include "worker/channel/beat.h"
#include "worker/channel/caution.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/outlet.h"
#include "worker/channel/tally.h"
#include "worker/step.h"

struct relay {
    uint32_t count;
    struct outlet *outlets;
    struct tally tally;
    struct relay_progress progress;
    struct parcel parcel; /* the chunk in work */
    uint32_t quarantined; /* left out of it */
    uint64_t latest_from; /* who is newest among the destinations is sent nothing before it */
};

static void commit(struct channel_page *page, const struct relay *relay)
{
    const struct destination_tally counts = tally_of(&relay->tally);
    channel_page_write_relay(page, &relay->progress, &counts);
}

int relay_open(struct channel_state *channel)
{
    struct channel_page *page = channel->ring.page;
    uint32_t count = channel->spec->relay_count;
    struct relay *relay = calloc(1, sizeof *relay);
    if (!relay)
        return -ENOMEM;
    channel->relay = relay;
    relay->count = count;
    relay->outlets = calloc(count + 1, sizeof *relay->outlets);
    if (!relay->outlets || tally_open(&relay->tally, channel, DESTINATION_IS_RELAY) < 0)
        return -ENOMEM;
    channel_page_read_relay(page, &relay->progress); /* sound: takeover_attach() has checked */
    for (uint32_t i = 0; i < count; i++) {
        relay->outlets[i] =
            (struct outlet){.fd = channel->inheritance->destinations[i],
                            .receives = channel->inheritance->rx,
                            .kind = "relay",
                            .name = channel->spec->destinations[i].name,
                            .every = 1,
                            .from_seq = channel_page_sent_from(page, channel->places[i]),
                            .place = &page->private.places[channel->places[i]]};
        outlet_open(&relay->outlets[i]);
        if (relay->outlets[i].from_seq > relay->latest_from)
            relay->latest_from = relay->outlets[i].from_seq;
    }
    if (outlet_count_repeats(relay->outlets, relay->tally.counts, count, relay->progress.next_seq,
                             atomic_load(&page->private.relay_attempted)))
        commit(page, relay);
    atomic_store(&channel->relay_cursor, relay->progress.next_seq);
    return 0;
}

/* Gather [from, to) into the parcel; what is in quarantine stays out. */
static void gather(struct channel_state *channel, uint64_t from, uint64_t to)
{
    struct relay *relay = channel->relay;
    struct ring_datagram datagram;
    relay->parcel.count = relay->quarantined = 0;
    for (uint64_t seq = from; seq < to; seq++) {
        ring_peek(&channel->ring, seq, &datagram); /* nobody can overwrite but this thread */
        relay->progress.truncated += datagram.cut > 0;
        relay->progress.kernel_dropped += datagram.lost_before;
        if (datagram.flags & DATAGRAM_QUARANTINED) {
            relay->quarantined++;
            continue;
        }
        TEST_PAYLOAD(CONSUMER_RELAY, datagram.data, datagram.length);
        parcel_add(&relay->parcel, datagram.data, datagram.length);
    }
    parcel_cut(&relay->parcel);
}

/* All of a chunk is for a destination, or nothing of it. */
static uint64_t end_before_newcomers(const struct relay *relay, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < relay->count && from < relay->latest_from; i++)
        if (relay->outlets[i].from_seq > from && relay->outlets[i].from_seq < to)
            to = relay->outlets[i].from_seq;
    return to;
}

void relay_run(struct channel_state *channel)
{
    struct relay *relay = channel->relay;
    struct channel_page *page = channel->ring.page;
    uint64_t end = channel->writer.seq;

    while (relay->progress.next_seq < end) {
        uint64_t from = relay->progress.next_seq;
        uint64_t to = end - from > PARCEL_MAX ? from + PARCEL_MAX : end;
        to = caution_limit(&channel->caution[CONSUMER_RELAY], from, to);
        to = end_before_newcomers(relay, from, to);

        atomic_store_explicit(&page->private.relay_attempted, to, memory_order_release);
        REACHED(page, relay_attempted);
        beat_work(channel, CHANNEL_THREAD_RECEIVER, from, to);
        gather(channel, from, to);
        for (uint32_t i = 0; i < relay->count; i++) {
            if (relay->outlets[i].from_seq >= to)
                continue;
            relay->tally.counts[i].dropped += relay->quarantined;
            outlet_send(&relay->outlets[i], &relay->parcel, &relay->tally.counts[i]);
        }
        REACHED(page, relay_sent);
        relay->progress.next_seq = to;
        commit(page, relay);
        atomic_store_explicit(&channel->relay_cursor, to, memory_order_release);
        REACHED(page, relay_committed);
        if (to < end)
            beat_busy(channel, CHANNEL_THREAD_RECEIVER);
    }
    beat_work(channel, CHANNEL_THREAD_RECEIVER, 0, 0);
}
