/* SPDX-License-Identifier: MIT */
/* A channel's counters over all rings that it has had. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_LEDGER_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_LEDGER_H

#include "supervisor/channel/channel.h"

/* Bring last_seen up to date with the present ring. false when it can't be read: the last known
 * values stay. */
bool channel_ledger_look(struct channel *channel);

/* The ledger now; false when the ring can't be read (the last known values are given then). */
bool channel_ledger_read(struct channel *channel, struct counters *ret, uint64_t *ret_pending);

/* Could the ring not be read for longer than who is just writing it explains? */
bool channel_ledger_is_stuck(const struct channel *channel, monotonic now);

/* What one destination of the settings was sent, over all rings. */
void channel_ledger_destination(const struct channel *channel, uint32_t index,
                                struct destination_progress *ret);

/* The newest datagram that anybody received for this channel since this supervisor began, or that a
 * ring it took over has. */
struct channel_newest channel_ledger_newest(const struct channel *channel);

/* So many datagrams that the kernel had queued went with the socket. */
void channel_ledger_discarded(struct channel *channel, uint64_t count);

/* To a supervisor after this one: all that is known now. */
void channel_ledger_hand_on(struct channel *channel);

/* Give up the ring: its counters are carried on, what was pending counts as lost. Returns how many
 * datagrams of this ring were not recorded in all. */
uint64_t channel_ledger_retire_ring(struct channel *channel);

#endif
