/* SPDX-License-Identifier: MIT */
/* The full-rate way out, on the receiver's thread. */
#ifndef HOLDFAST_WORKER_CHANNEL_RELAY_H
#define HOLDFAST_WORKER_CHANNEL_RELAY_H

struct channel_state;

/* Go on where the relay slot stands. 0 or -errno. */
int relay_open(struct channel_state *channel);

/* Offer every published datagram that was not offered yet to every full-rate destination. */
void relay_run(struct channel_state *channel);

#endif
