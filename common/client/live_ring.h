/* SPDX-License-Identifier: MIT */
/* A reader's hold on its channel's public memory: which ring it is, and what its commit slot says.
 */
#ifndef HOLDFAST_COMMON_CLIENT_LIVE_RING_H
#define HOLDFAST_COMMON_CLIENT_LIVE_RING_H

#include <stdbool.h>

struct live_reader;

/* reader_link_pump(), and what came of it that concerns the ring: another one, or none. */
void live_ring_pump(struct live_reader *reader);

/* Has the gate woken it? Then look again; but one that is woken without end comes back later. */
bool live_ring_take_wake(struct live_reader *reader);

/* It can't be had just now, and a timer says when it is asked for again: who were woken for what is
 * in it would be so without end. */
bool live_ring_comes_by_itself(const struct live_reader *reader);

/* Has another ring come, or gone? Then look again, too: nothing else would wake it for that. */
bool live_ring_take_change(struct live_reader *reader);

/* Read the commit slot again. Where the ring takes no more, the gate is asked for another one. */
void live_ring_look(struct live_reader *reader);

void live_ring_close(struct live_reader *reader);

#endif
