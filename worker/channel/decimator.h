/* SPDX-License-Identifier: MIT */
/* The thread that picks datagrams for slow destinations. */
#ifndef HOLDFAST_WORKER_CHANNEL_DECIMATOR_H
#define HOLDFAST_WORKER_CHANNEL_DECIMATOR_H

struct channel_state;

/* Go on where the decimate slot stands. 0 or -errno. */
int decimator_open(struct channel_state *channel);

/* The thread's whole life; its argument is the struct channel_state. */
void *decimator_main(void *channel);

#endif
