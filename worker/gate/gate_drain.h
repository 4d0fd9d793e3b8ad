/* SPDX-License-Identifier: MIT */
/* The end of a gate: what was accepted is answered, what comes now is refused. */
#ifndef HOLDFAST_WORKER_GATE_DRAIN_H
#define HOLDFAST_WORKER_GATE_DRAIN_H

#include "worker/gate/gate_state.h"

/* STOP: no more connections are taken. */
void gate_drain_begin(struct gate *gate);

/* At the end of each turn from then on: those that have all their answers end; gate->leaving is set
 * when there is none any more, or the grace is over. In so many milliseconds that is. */
void gate_drain_look(struct gate *gate);
int gate_drain_wait_ms(const struct gate *gate, monotonic now);

#endif
