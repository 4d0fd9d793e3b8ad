/* SPDX-License-Identifier: MIT */
/* Destinations that come and go. Called by workers that take over, by the supervisor and by tests.
 * Must never lose a count or count it twice, whenever the worker dies: the header says in which
 * order it writes. */
#include "common/channel_page_places.h"

#include <stdatomic.h>
#include <string.h>

struct all_counts {
    uint32_t places[CHANNEL_PLACES_MAX];
    struct destination_progress counts[CHANNEL_PLACES_MAX];
    uint32_t count;
};

/* As they are now; where nothing is in use yet, nothing. */
static void read_all(const struct channel_page *page, enum destination_use use,
                     struct all_counts *ret)
{
    uint32_t sum = channel_page_sum_place(use);
    ret->count = 0;
    for (uint32_t i = 0; i < CHANNEL_PLACES_MAX; i++) {
        bool in_use = atomic_load(&channel_page_place(page, i)->use) == (uint16_t)use;
        if (!in_use && i != sum)
            continue;
        ret->places[ret->count] = i;
        ret->counts[ret->count] = (struct destination_progress){0};
        if (in_use)
            channel_page_read_destination(page, i, &ret->counts[ret->count]);
        ret->count++;
    }
}

static struct destination_progress *counts_of(struct all_counts *all, uint32_t place)
{
    uint32_t i = 0;
    while (all->places[i] != place)
        i++;
    return &all->counts[i];
}

static void flip(struct channel_page *page, enum destination_use use, const struct all_counts *all)
{
    const struct destination_tally tally = {all->places, all->counts, all->count};
    struct relay_progress relay = {0};
    struct decimate_progress decimate = {0};
    if (use == DESTINATION_IS_RELAY) {
        channel_page_read_relay(page, &relay);
        channel_page_write_relay(page, &relay, &tally);
    } else {
        channel_page_read_decimate(page, &decimate);
        channel_page_write_decimate(page, &decimate, &tally);
    }
}

void channel_page_give_up(struct channel_page *page, uint32_t place)
{
    struct destination_place *it = channel_page_place(page, place);
    enum destination_use use = (enum destination_use)atomic_load(&it->use);
    struct destination_place *sum = channel_page_place(page, channel_page_sum_place(use));
    struct all_counts all;

    read_all(page, use, &all);
    flip(page, use, &all);
    if (atomic_load(&sum->use) == DESTINATION_UNUSED)
        atomic_store_explicit(&sum->use, (uint16_t)use, memory_order_release);
    struct destination_progress *from = counts_of(&all, place);
    struct destination_progress *into = counts_of(&all, channel_page_sum_place(use));
    into->sent += from->sent;
    into->dropped += from->dropped;
    into->repeated += from->repeated;
    *from = (struct destination_progress){0};
    flip(page, use, &all);
    memset(it->name, 0, sizeof it->name);
    atomic_store_explicit(&it->use, DESTINATION_UNUSED, memory_order_release);
}

uint64_t channel_page_sent_from(const struct channel_page *page, uint32_t place)
{
    const struct destination_rate *rate = &page->private.rates[place];
    uint64_t published = atomic_load(&page->public.published);
    uint64_t sent = atomic_load(&rate->sent);
    return sent <= published && sent == atomic_load(&rate->attempted) ? sent : 0;
}

void channel_page_note_away(struct channel_page *page, uint32_t place)
{
    atomic_store(&page->private.rates[place].due_ns, DESTINATION_AWAY);
}
