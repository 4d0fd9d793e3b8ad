/* SPDX-License-Identifier: MIT */
/* Places of destinations in a page that outlives any number of lists of them. Where all are taken,
 * one that is gone gives its own up. Called by takeover. Must never lose a count, nor hand it to
 * another name: dying between any two stores leaves a page that a successor can go on with. */
#include "worker/channel/destination_places.h"

#include <errno.h>
#include <stdbool.h>

#include "common/channel_page.h"
#include "common/channel_page_places.h"
#include "common/channel_spec.h"
#include "common/inflight_delivered.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/tally.h"

static bool is_in_settings(const struct channel_page *page, const struct channel_spec *spec,
                           enum destination_use use, int place)
{
    for (uint32_t i = 0; i < channel_spec_destination_count(spec); i++)
        if (channel_page_use_of(spec, i) == use &&
            channel_page_is_destination(page, place, use, spec->destinations[i].name))
            return true;
    return false;
}

/* There is one that can be given up: the settings have no more destinations than there are places,
 * and one of them has none. false: the names are damaged. */
static bool free_a_place(struct channel_page *page, const struct channel_spec *spec)
{
    for (int place = 0; place < CHANNEL_DESTINATIONS_MAX; place++) {
        enum destination_use use =
            (enum destination_use)atomic_load(&page->private.places[place].use);
        if (is_in_settings(page, spec, use, place))
            continue;
        channel_page_give_up(page, (uint32_t)place);
        return true;
    }
    return false;
}

/* As long as there is no decimated destination, the decimator's position stands still: the first
 * one is not to be sent the ring's history. */
static int begin_decimating(struct channel_state *channel)
{
    struct channel_page *page = channel->ring.page;
    bool decimates = channel->spec->decimate_count > 0;
    struct relay_progress relay;
    struct decimate_progress decimate;
    struct tally tally;
    if (decimates && atomic_load(&page->private.decimates) == 0) {
        if (tally_open(&tally, channel, DESTINATION_IS_DECIMATE) < 0)
            return -ENOMEM;
        channel_page_read_relay(page, &relay); /* sound: channel_page_check() has read them */
        channel_page_read_decimate(page, &decimate);
        decimate.next_seq = relay.next_seq;
        atomic_store(&page->private.decimate_attempted, decimate.next_seq);
        const struct destination_tally counts = tally_of(&tally);
        channel_page_write_decimate(page, &decimate, &counts);
        tally_close(&tally);
    }
    atomic_store(&page->private.decimates, decimates);
    return 0;
}

static void note_who_is_away(struct channel_state *channel)
{
    struct channel_page *page = channel->ring.page;
    bool present[CHANNEL_DESTINATIONS_MAX] = {0};
    for (uint32_t i = 0; i < channel_spec_destination_count(channel->spec); i++)
        present[channel->places[i]] = true;
    for (uint32_t place = 0; place < CHANNEL_DESTINATIONS_MAX; place++)
        if (!present[place])
            channel_page_note_away(page, place);
}

int destination_places_make(struct channel_state *channel, const char **ret_what)
{
    struct channel_page *page = channel->ring.page;
    const struct channel_spec *spec = channel->spec;
    /* What the predecessor was given came before those that are new, published or not. */
    uint64_t now =
        atomic_load(&page->public.published) + inflight_unpublished(page, &channel->ring.geometry);
    for (uint32_t i = 0; i < channel_spec_destination_count(spec); i++) {
        const char *name = spec->destinations[i].name;
        int place = channel_page_place_destination(page, channel_page_use_of(spec, i), name, now);
        if (place < 0 && free_a_place(page, spec))
            place = channel_page_place_destination(page, channel_page_use_of(spec, i), name, now);
        if (place < 0) {
            *ret_what = "two of its destinations have one name";
            return -EBADMSG;
        }
        channel->places[i] = (uint32_t)place;
    }
    note_who_is_away(channel);
    return begin_decimating(channel);
}
