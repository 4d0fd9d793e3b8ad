/* SPDX-License-Identifier: MIT */
/* What the main loop waits for at a connection, and which connection an event is about. */
#ifndef HOLDFAST_WORKER_GATE_EVENTS_H
#define HOLDFAST_WORKER_GATE_EVENTS_H

#include <stdint.h>

#include "worker/gate/gate_state.h"

/* What an event that is about this connection bears. */
uint64_t gate_events_data(const struct gate_connection *connection);

/* Of a connection that is new: requests. 0 or -errno. */
int gate_events_begin(struct gate *gate, struct gate_connection *connection);
/* Requests unless too many are unanswered or it is held, and room while something waits for it.
 * After everything that changes one of these. */
void gate_events_set(struct gate *gate, struct gate_connection *connection);

/* By an event's data; NULL when it has ended. */
struct gate_connection *gate_events_connection(struct gate *gate, uint64_t data);

#endif
