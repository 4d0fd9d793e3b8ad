/* SPDX-License-Identifier: MIT */
/* A process that is a channel's worker. */
#ifndef HOLDFAST_WORKER_CHANNEL_CHANNEL_WORKER_H
#define HOLDFAST_WORKER_CHANNEL_CHANNEL_WORKER_H

struct inheritance;

/* The whole life of one generation; returns the exit status. */
int channel_worker_run(struct inheritance *inheritance);

#endif
