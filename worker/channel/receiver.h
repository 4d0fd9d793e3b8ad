/* SPDX-License-Identifier: MIT */
/* The thread that takes datagrams from the socket. */
#ifndef HOLDFAST_WORKER_CHANNEL_RECEIVER_H
#define HOLDFAST_WORKER_CHANNEL_RECEIVER_H

/* The thread's whole life; its argument is the struct channel_state. relay_open() comes before. */
void *receiver_main(void *channel);

#endif
