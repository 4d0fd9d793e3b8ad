/* SPDX-License-Identifier: MIT */
/* The thread that waits for disks. */
#ifndef HOLDFAST_WORKER_CHANNEL_SYNCER_H
#define HOLDFAST_WORKER_CHANNEL_SYNCER_H

/* The thread's whole life; its argument is the struct channel_state. recorder_open() comes before.
 */
void *syncer_main(void *channel);

#endif
