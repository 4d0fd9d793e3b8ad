/* SPDX-License-Identifier: MIT */
/* The gate: the process that serves readers. */
#ifndef HOLDFAST_WORKER_GATE_GATE_H
#define HOLDFAST_WORKER_GATE_GATE_H

#include "worker/inherit.h"

/* Until the supervisor says STOP or is gone. Returns the process's exit status: connections and
 * threads end with the process. */
int gate_run(const struct inheritance *inheritance);

#endif
