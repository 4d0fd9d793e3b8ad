/* SPDX-License-Identifier: MIT */
/* The thread that records. */
#ifndef HOLDFAST_WORKER_CHANNEL_RECORDER_H
#define HOLDFAST_WORKER_CHANNEL_RECORDER_H

struct channel_state;

/* Take over the inherited segments and the commit slot, after syncer_open(). 0 or -errno. */
int recorder_open(struct channel_state *channel);

/* The thread's whole life; its argument is the struct channel_state. */
void *recorder_main(void *channel);

#endif
