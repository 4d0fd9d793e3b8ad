/* SPDX-License-Identifier: MIT */
/* A channel's ring memory, and the count of what the kernel dropped in front of it. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_HOLD_RING_H
#define HOLDFAST_SUPERVISOR_HOLD_HOLD_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/hold/hold.h"

/* Is it made of huge pages? */
/* The public memory for somebody who may read it: a descriptor of its own, by which it can't be
 * written to, neither by itself nor by what it leads to in /proc. The caller's. -ENOENT: there is
 * no ring, or what is in it is still to be brought there; or -errno. */
int hold_ring_lend(const struct hold *hold);
/* Another number for another ring; 0 when there is none to be lent. */
uint64_t hold_ring_number(const struct hold *hold);

bool hold_ring_is_huge(const struct hold *hold);

/* Make a fresh ring whose first datagram gets start_seq. Replaces an earlier one. Where the huge
 * pages that are wanted can't be had, it is of normal ones, and hold->pages_reason says why. 0, or
 * -errno with why. */
int hold_ring_make(struct hold *hold, const struct channel_spec *spec, uint64_t start_seq,
                   char *why, size_t why_size);

/* hold->ring and hold->private_part came from elsewhere: map their page. 0 or -errno. */
int hold_ring_map(struct hold *hold);

/* What the kernel has queued for this channel, in bytes of its own accounting. false when there is
 * no socket. */
struct hold_queue {
    uint32_t used;
    uint32_t size;
};
bool hold_ring_queue(const struct hold *hold, struct hold_queue *ret);

/* Datagrams that the kernel has dropped in front of this ring and not yet told with a datagram;
 * `told` is the ring's kernel_dropped. While there is no ring: since the one before it, 0 told. 0
 * when it can't be known. */
uint32_t hold_ring_untold_drops(const struct hold *hold, uint64_t told);
/* The same when the ring is given up, or the socket where none was made: the socket's next one
 * tells from there on. */
uint32_t hold_ring_end_drops(struct hold *hold, uint64_t told);
/* A socket has come to this ring, or a ring to this socket: from here on drops count, or from where
 * the ring before has ended. */
void hold_ring_begin_drops(struct hold *hold);
/* Nobody was receiving for a while before what comes next. */
void hold_ring_mark_gap(struct hold *hold);
/* Both come from a supervisor before this one: they have belonged together since the ring was made.
 * Or the socket alone. */
void hold_ring_adopt_drops(struct hold *hold);

#endif
