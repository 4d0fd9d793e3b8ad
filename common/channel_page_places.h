/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* Destinations that come and go: from where on one is sent, and how one that is gone gives its place up, so that a ring
 * outlives any number of lists of them. What it has counted becomes part of its use's sum, which has no name and is flipped
 * along like a place.
 *
 * Write order, by a worker at takeover, while no other thread runs, and what one that dies behind each step leaves:
 *   1. flip as it is, with nothing counted in a sum that is not in   its slot is sound, and nobody looks at it: the next one
 *      use                                                           begins again here; one that an earlier program has left
 *                                                                    behind is flipped along again
 *   2. of a sum that was not in use, `use`                           a sum of nothing, flipped along from now on
 *   3. idle slots: nothing in the place, both in the sum             nobody reads an idle slot: it is written anew
 *   4. flip: one word                                                a place with a name that has counted nothing: it may be
 *                                                                    given up again, or is its name's again
 *   5. the place's name: none                                        the same, nobody's: so a name without a use is one whose
 *                                                                    use was damaged
 *   6. the place's `use`: none                                       free
 * The word that flips is that of the relay, or the decimator: position and all other counters are flipped as they are. */
/* clang-format on */
#ifndef HOLDFAST_COMMON_CHANNEL_PAGE_PLACES_H
#define HOLDFAST_COMMON_CHANNEL_PAGE_PLACES_H

#include <stdint.h>

#include "common/channel_page.h"

/* This place is in use, by nobody's settings; the page is sound. */
void channel_page_give_up(struct channel_page *page, uint32_t place);

/* The first datagram that is for a destination which doesn't go by rate, if it is behind those that
 * were sent to all; 0 = not known. */
uint64_t channel_page_sent_from(const struct channel_page *page, uint32_t place);

/* It is not in the settings, at takeover: should it come back, it is sent nothing that came while
 * it was away. */
void channel_page_note_away(struct channel_page *page, uint32_t place);

#endif
