/* SPDX-License-Identifier: MIT */
/* Connections that are idle, and requests that wait for too long. */
#ifndef HOLDFAST_WORKER_GATE_TIMEOUTS_H
#define HOLDFAST_WORKER_GATE_TIMEOUTS_H

#include "worker/gate/gate_state.h"

/* In each turn: end those whose time is over. In so many milliseconds there may be more; -1: until
 * something happens, there are none. */
int gate_timeouts_look(struct gate *gate, monotonic now);

#endif
