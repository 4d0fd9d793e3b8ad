/* SPDX-License-Identifier: MIT */
/* The main thread, once the others run: it listens to the supervisor. */
#ifndef HOLDFAST_WORKER_CHANNEL_CONTROL_H
#define HOLDFAST_WORKER_CHANNEL_CONTROL_H

struct channel_state;

/* Until the worker ends. Returns the exit status. */
int control_run(struct channel_state *channel);

#endif
