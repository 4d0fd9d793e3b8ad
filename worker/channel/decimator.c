/* SPDX-License-Identifier: MIT */
/* The decimator: a ring reader that picks datagrams for slow destinations. keep_every picks by
 * sequence number, so a restart doesn't shift its phase; max_rate picks the newest one whenever its
 * interval has passed. Datagrams are copied before they are sent: the ring may lap at any time.
 * Must never hold back the receiver. */
#include "worker/channel/decimator.h"

#include <errno.h>
#include <stdlib.h>

#include "common/channel_page.h"
#include "common/channel_page_places.h"
#include "common/monotonic.h"
#include "common/ring.h"
#include "worker/channel/attention.h"
#include "worker/channel/beat.h"
#include "worker/channel/caution.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/outlet.h"
#include "worker/channel/tally.h"
#include "worker/channel/thread.h"
#include "worker/channel/wakeup.h"
#include "worker/step.h"

/* While several datagrams come out of one round, they are collected this long: one call sends them
 * all. */
#define PAUSE_NS NS_PER_MS
/* ... and so many rounds with one or none: the receiver may have ended a pause early. */
#define CALM_ROUNDS 4

/* A destination that goes by max_rate. */
struct decimate_rate {
    uint64_t interval_ns;            /* 0 = it goes by count */
    struct destination_rate *shared; /* in the channel page: what a successor has to know */
    monotonic due;                   /* not before */
    uint64_t newest_sent;            /* sequence number after the last one that was sent */
    uint64_t doubtful; /* the predecessor may have sent the one before it, or have waited with it */
};

struct decimator {
    uint32_t count;
    struct outlet *outlets;
    struct decimate_rate *rates;
    struct tally tally;
    struct decimate_progress progress;
    uint32_t calm;       /* rounds since several datagrams came out of one */
    uint64_t round_most; /* sequence numbers per round: the densest destination fills one parcel
                            with them */
    struct parcel parcel;
    uint8_t *copies; /* PARCEL_MAX slots */
};

static void write_progress(struct channel_state *channel)
{
    const struct destination_tally counts = tally_of(&channel->decimator->tally);
    channel_page_write_decimate(channel->ring.page, &channel->decimator->progress, &counts);
}

int decimator_open(struct channel_state *channel)
{
    const struct channel_spec *spec = channel->spec;
    struct channel_page *page = channel->ring.page;
    struct decimator *decimator = calloc(1, sizeof *decimator);
    if (!decimator)
        return -ENOMEM;
    channel->decimator = decimator;
    decimator->count = spec->decimate_count;
    decimator->outlets = calloc(decimator->count, sizeof *decimator->outlets);
    decimator->rates = calloc(decimator->count, sizeof *decimator->rates);
    decimator->copies = malloc((size_t)PARCEL_MAX * channel->ring.geometry.slot_size);
    if (!decimator->outlets || !decimator->rates || !decimator->copies ||
        tally_open(&decimator->tally, channel, DESTINATION_IS_DECIMATE) < 0)
        return -ENOMEM;
    channel_page_read_decimate(page,
                               &decimator->progress); /* sound: takeover_attach() has checked */
    uint64_t densest = UINT64_MAX / PARCEL_MAX;
    for (uint32_t i = 0; i < decimator->count; i++) {
        uint32_t index = spec->relay_count + i;
        const struct destination_spec *destination = &spec->destinations[index];
        decimator->outlets[i] =
            (struct outlet){.fd = channel->inheritance->destinations[index],
                            .receives = -1,
                            .kind = "decimate",
                            .name = destination->name,
                            .every = destination->keep_every,
                            .from_seq = channel_page_sent_from(page, channel->places[index]),
                            .place = &page->private.places[channel->places[index]]};
        outlet_open(&decimator->outlets[i]);
        decimator->rates[i].shared = &page->private.rates[channel->places[index]];
        if (destination->max_rate)
            decimator->rates[i].interval_ns = NS_PER_S / destination->max_rate;
        if (destination->keep_every && destination->keep_every < densest)
            densest = destination->keep_every;
    }
    decimator->round_most = densest * PARCEL_MAX;
    decimator->calm = CALM_ROUNDS;
    if (outlet_count_repeats(decimator->outlets, decimator->tally.counts, decimator->count,
                             decimator->progress.next_seq,
                             atomic_load(&page->private.decimate_attempted)))
        write_progress(channel);
    atomic_store(&channel->decimator_cursor, decimator->progress.next_seq);
    return 0;
}

static void commit(struct channel_state *channel, uint64_t next_seq)
{
    struct decimator *decimator = channel->decimator;
    decimator->progress.next_seq = next_seq;
    write_progress(channel);
    REACHED(channel->ring.page, decimate_committed);
    atomic_store_explicit(&channel->decimator_cursor, next_seq, memory_order_release);
}

/* Copy one datagram out of the ring into the parcel. Lapped, or in quarantine: counted as lost. */
static void take(struct channel_state *channel, uint64_t seq)
{
    struct decimator *decimator = channel->decimator;
    uint8_t *copy =
        decimator->copies + (size_t)decimator->parcel.count * channel->ring.geometry.slot_size;
    struct ring_datagram datagram;
    bool there =
        ring_peek(&channel->ring, seq, &datagram) && !(datagram.flags & DATAGRAM_QUARANTINED);
    if (there)
        ring_copy(copy, datagram.data, datagram.length);
    if (!there || !ring_intact(&channel->ring, &datagram)) {
        decimator->progress.lost++;
        return;
    }
    TEST_PAYLOAD(CONSUMER_DECIMATE, copy, datagram.length);
    parcel_add(&decimator->parcel, copy, datagram.length);
}

static void send_parcel(struct channel_state *channel, uint32_t index)
{
    struct decimator *decimator = channel->decimator;
    if (decimator->parcel.count == 0)
        return;
    parcel_cut(&decimator->parcel);
    outlet_send(&decimator->outlets[index], &decimator->parcel, &decimator->tally.counts[index]);
    REACHED(channel->ring.page, decimate_sent);
}

/* Everything that goes by count in one round from where we are, at most to `relayed`. Returns the
 * size of the largest parcel. */
static uint32_t run_by_count(struct channel_state *channel, uint64_t relayed)
{
    struct decimator *decimator = channel->decimator;
    uint64_t from = decimator->progress.next_seq;
    uint64_t to = relayed - from > decimator->round_most ? from + decimator->round_most : relayed;
    uint32_t largest = 0;

    to = caution_limit(&channel->caution[CONSUMER_DECIMATE], from, to);
    if (from == to)
        return 0;
    atomic_store_explicit(&channel->ring.page->private.decimate_attempted, to,
                          memory_order_release);
    REACHED(channel->ring.page, decimate_attempted);
    beat_work(channel, CHANNEL_THREAD_DECIMATOR, from, to);
    for (uint32_t i = 0; i < decimator->count; i++) {
        decimator->parcel.count = 0;
        for (uint64_t seq = outlet_next(&decimator->outlets[i], from); seq < to;
             seq += decimator->outlets[i].every)
            take(channel, seq);
        if (decimator->parcel.count > largest)
            largest = decimator->parcel.count;
        send_parcel(channel, i);
    }
    commit(channel, to);
    beat_work(channel, CHANNEL_THREAD_DECIMATOR, 0, 0);
    return largest;
}

/* For a successor: first that it may have been sent and
 * when the next one may be, then that it was. */
static void send_newest(struct channel_state *channel, uint32_t index, uint64_t relayed)
{
    struct decimator *decimator = channel->decimator;
    struct decimate_rate *rate = &decimator->rates[index];
    struct destination_rate *shared = rate->shared;
    atomic_store_explicit(&shared->due_ns, rate->due.ns, memory_order_release);
    atomic_store_explicit(&shared->attempted, relayed, memory_order_release);
    beat_work(channel, CHANNEL_THREAD_DECIMATOR, relayed - 1, relayed);
    decimator->parcel.count = 0;
    take(channel, relayed - 1);
    if (relayed == rate->doubtful)
        decimator->tally.counts[index].repeated += decimator->parcel.count;
    send_parcel(channel, index);
    commit(channel, decimator->progress.next_seq);
    atomic_store_explicit(&shared->sent, relayed, memory_order_release);
    beat_work(channel, CHANNEL_THREAD_DECIMATOR, 0, 0);
    rate->newest_sent = relayed;
}

/* Then the next datagram is what this destination waits for; else it is the time. */
static bool has_nothing_unsent(const struct channel_state *channel, uint32_t index,
                               uint64_t relayed)
{
    return channel->decimator->rates[index].newest_sent >= relayed ||
           relayed == channel->ring.page->public.start_seq;
}

/* The newest datagram for every destination that is due. Returns nanoseconds until the next one is
 * due and has something unsent, 0 when none waits. */
static uint64_t run_by_rate(struct channel_state *channel, uint64_t relayed)
{
    struct decimator *decimator = channel->decimator;
    monotonic now = monotonic_now();
    uint64_t wait = 0;
    for (uint32_t i = 0; i < decimator->count; i++) {
        struct decimate_rate *rate = &decimator->rates[i];
        if (!rate->interval_ns || has_nothing_unsent(channel, i, relayed))
            continue;
        if (now.ns >= rate->due.ns) {
            rate->due = monotonic_add(now, rate->interval_ns);
            send_newest(channel, i, relayed);
        } else if (wait == 0 || rate->due.ns - now.ns < wait) {
            wait = rate->due.ns - now.ns;
        }
    }
    return wait;
}

/* Sleep until the next datagram that somebody wants, or until a rate is due. While many come, sleep
 * by the clock. */
static void wait_for_work(struct channel_state *channel, uint32_t ticket, uint64_t rate_wait,
                          bool flowing)
{
    struct decimator *decimator = channel->decimator;
    uint64_t cursor = decimator->progress.next_seq;
    uint64_t wake_at = WAKEUP_NEVER;
    uint64_t timeout = rate_wait;
    for (uint32_t i = 0; i < decimator->count; i++) {
        uint64_t next = outlet_next(&decimator->outlets[i], cursor);
        if (next != UINT64_MAX && next + 1 < wake_at)
            wake_at = next + 1;
        if (decimator->rates[i].interval_ns && has_nothing_unsent(channel, i, cursor))
            wake_at = cursor + 1;
    }
    if (flowing) {
        wake_at = cursor + decimator->round_most;
        if (timeout == 0 || timeout > PAUSE_NS)
            timeout = PAUSE_NS;
    }
    beat_parked(channel, CHANNEL_THREAD_DECIMATOR);
    wakeup_wait(&channel->decimator_wakeup, ticket, &channel->relay_cursor, wake_at, timeout);
    beat_busy(channel, CHANNEL_THREAD_DECIMATOR);
}

/* A number that nobody has given yet is none: the destination would be silent until then. */
static uint64_t published_or_none(const struct channel_state *channel, uint64_t seq)
{
    return seq <= atomic_load(&channel->ring.page->public.published) ? seq : 0;
}

/* It went by count, or is new: what was decided is what it was sent, or was not for it. `due_ns`
 * last: until then it is as before. */
static uint64_t change_to_rate(struct destination_rate *shared, uint64_t sent, uint64_t next,
                               monotonic now)
{
    uint64_t decided = sent > next ? sent : next;
    atomic_store(&shared->attempted, decided);
    atomic_store(&shared->sent, decided);
    atomic_store(&shared->due_ns, now.ns);
    return decided;
}

/* Where the predecessor stood. The newest datagram may have waited for its time when it died, and
 * if nothing follows, it is what shows the state of things. Sent again is only what may have been
 * sent without being noted, or of which an older version has noted nothing. One that goes by count
 * notes that it does. */
static void take_over_rates(struct channel_state *channel)
{
    struct decimator *decimator = channel->decimator;
    uint64_t next = decimator->progress.next_seq;
    monotonic now = monotonic_now();
    for (uint32_t i = 0; i < decimator->count; i++) {
        struct decimate_rate *rate = &decimator->rates[i];
        uint64_t sent = published_or_none(channel, atomic_load(&rate->shared->sent));
        uint64_t attempted = published_or_none(channel, atomic_load(&rate->shared->attempted));
        uint64_t due = atomic_load(&rate->shared->due_ns);
        if (!rate->interval_ns) {
            atomic_store(&rate->shared->due_ns, 0);
            continue;
        }
        if (due == 0 && sent != 0) {
            sent = attempted = change_to_rate(rate->shared, sent, next, now);
        } else if (sent == 0 && next > channel->ring.page->public.start_seq) {
            sent = next - 1;
            attempted = next;
        }
        rate->newest_sent = sent;
        rate->doubtful = attempted > sent ? attempted : 0;
        if (due > now.ns) /* a scribbled one can't stop it for longer than its interval */
            rate->due.ns = due - now.ns > rate->interval_ns ? now.ns + rate->interval_ns : due;
    }
}

void *decimator_main(void *argument)
{
    struct channel_state *channel = argument;
    struct decimator *decimator = channel->decimator;

    thread_begin(channel, CHANNEL_THREAD_DECIMATOR);
    beat_busy(channel, CHANNEL_THREAD_DECIMATOR);
    take_over_rates(channel);
    for (;;) {
        uint32_t ticket = wakeup_ticket(&channel->decimator_wakeup);
        /* Before the cursor: nothing comes after it. */
        bool ending = channel_state_stop_phase(channel) >= STOP_READERS;
        uint64_t relayed = channel_state_relay_cursor(channel);
        uint32_t largest = run_by_count(channel, relayed);
        uint64_t rate_wait = run_by_rate(channel, relayed);
        beat_busy(channel, CHANNEL_THREAD_DECIMATOR);
        if (decimator->progress.next_seq != relayed)
            continue;
        /* A successor sends what still waits for its time. When none follows, it goes out first. */
        if (ending && (rate_wait == 0 || !atomic_load(&channel->stop_drains)))
            break;
        decimator->calm = largest > 1 ? 0 : decimator->calm + (decimator->calm < CALM_ROUNDS);
        wait_for_work(channel, ticket, rate_wait, decimator->calm < CALM_ROUNDS);
    }
    beat_end(channel, CHANNEL_THREAD_DECIMATOR);
    atomic_store(&channel->decimator_done, 1);
    attention_call(&channel->attention);
    return NULL;
}
