/* SPDX-License-Identifier: MIT */
/* Gathers the counters that relay and decimator flip. Called once each, at takeover. Must leave no
 * place of its use out: one that isn't flipped along would be taken for damaged. */
#include "worker/channel/tally.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/channel_page.h"
#include "worker/channel/channel_state.h"

static void add(struct tally *tally, const struct channel_page *page, uint32_t place)
{
    /* Sound: takeover_attach() has checked. */
    channel_page_read_destination(page, place, &tally->counts[tally->count]);
    tally->places[tally->count++] = place;
}

static bool has(const struct tally *tally, uint32_t place)
{
    for (uint32_t i = 0; i < tally->count; i++)
        if (tally->places[i] == place)
            return true;
    return false;
}

void tally_close(struct tally *tally)
{
    free(tally->places);
    free(tally->counts);
    *tally = (struct tally){0};
}

int tally_open(struct tally *tally, const struct channel_state *channel, enum destination_use use)
{
    const struct channel_page *page = channel->ring.page;
    const struct channel_spec *spec = channel->spec;
    uint32_t first = use == DESTINATION_IS_RELAY ? 0 : spec->relay_count;
    uint32_t count = use == DESTINATION_IS_RELAY ? spec->relay_count : spec->decimate_count;
    *tally = (struct tally){.places = calloc(CHANNEL_PLACES_MAX, sizeof *tally->places),
                            .counts = calloc(CHANNEL_PLACES_MAX, sizeof *tally->counts)};
    if (!tally->places || !tally->counts)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        add(tally, page, channel->places[first + i]);
    for (uint32_t place = 0; place < CHANNEL_PLACES_MAX; place++)
        if (atomic_load(&channel_page_place(page, place)->use) == (uint16_t)use &&
            !has(tally, place))
            add(tally, page, place);
    return 0;
}
