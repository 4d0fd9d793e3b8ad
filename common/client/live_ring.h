/* SPDX-License-Identifier: MIT */
/* A reader's hold on its channel's public memory: which ring it is, and what its commit slot says.
 */
#ifndef HOLDFAST_COMMON_CLIENT_LIVE_RING_H
#define HOLDFAST_COMMON_CLIENT_LIVE_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "common/read_protocol.h"

struct live_reader;

/* reader_link_pump(), and what came of it that concerns the ring: another one, or none. */
void live_ring_pump(struct live_reader *reader);

/* Take what has come, and sleep until there is more than this. False: look again first, for the
 * gate has woken it, or has another ring, or none; who is woken without end comes back later. */
bool live_ring_fall_asleep(struct live_reader *reader, enum read_arm_for what, uint64_t seq);

/* Read the commit slot again. Where the ring takes no more, the gate is asked for another one. */
void live_ring_look(struct live_reader *reader);

/* While no ring is lent: the file that is read next begins there. true: its ring was not seen, and
 * gives numbers again that were told as lost. */
bool live_ring_found_unseen(struct live_reader *reader, uint64_t first_seq);
/* While the reader looks back: a file that begins there. Is it one that gives numbers again? */
void live_ring_found_behind(struct live_reader *reader, uint64_t first_seq);

/* What came out of a ring goes on as a log, and its ring is there. */
void live_ring_join_log(struct live_reader *reader);

void live_ring_close(struct live_reader *reader);

#endif
