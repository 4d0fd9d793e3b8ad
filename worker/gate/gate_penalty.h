/* SPDX-License-Identifier: MIT */
/* Whose connection was ended because of what it sent, waits a moment before another one is heard:
 * else one program of nonsense has the gate on a processor without end. What accepting a connection
 * costs, it costs all the same. */
#ifndef HOLDFAST_WORKER_GATE_GATE_PENALTY_H
#define HOLDFAST_WORKER_GATE_GATE_PENALTY_H

#include <stdint.h>

#include "worker/gate/gate_state.h"

/* From now on, unless there is one already. Root and the daemon's own user are trusted, where they
 * are known: never over TCP. */
void gate_penalty_give(struct gate *gate, uint64_t peer, monotonic now);

/* Of a connection that is new: it is not heard until its user may be. */
void gate_penalty_hold(struct gate *gate, struct gate_connection *connection, monotonic now);
/* It ends. */
void gate_penalty_forget(struct gate *gate, struct gate_connection *connection);

/* Hear those whose moment is over. Returns after how many ms to look again; -1 when there are none.
 */
int gate_penalty_look(struct gate *gate, monotonic now);

#endif
