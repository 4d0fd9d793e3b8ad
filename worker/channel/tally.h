/* SPDX-License-Identifier: MIT */
/* The counters of all destinations of one use, as they flip together with a position. */
#ifndef HOLDFAST_WORKER_CHANNEL_TALLY_H
#define HOLDFAST_WORKER_CHANNEL_TALLY_H

#include "common/channel_page.h"

struct channel_state;

struct tally {
    uint32_t *places; /* in the channel page: first those of the settings, in order, then the gone,
                         then their sum */
    struct destination_progress *counts; /* of each place */
    uint32_t count;
};

/* Read what was counted so far. The places of the settings' destinations have been made. 0 or
 * -ENOMEM. */
int tally_open(struct tally *tally, const struct channel_state *channel, enum destination_use use);

void tally_close(struct tally *tally);

static inline struct destination_tally tally_of(const struct tally *tally)
{
    return (struct destination_tally){tally->places, tally->counts, tally->count};
}

#endif
