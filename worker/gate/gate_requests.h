/* SPDX-License-Identifier: MIT */
/* Requests of readers, one after the other for each of them. */
#ifndef HOLDFAST_WORKER_GATE_REQUESTS_H
#define HOLDFAST_WORKER_GATE_REQUESTS_H

#include "worker/gate/gate_state.h"

/* Take some of what has arrived, and serve it or let it wait. */
void gate_requests_receive(struct gate *gate, struct gate_connection *connection);
/* An answer is done, or there is room again: serve what waits. */
void gate_requests_go_on(struct gate *gate, struct gate_connection *connection);

/* Channels have been lent: serve what waits for them. */
void gate_requests_look(struct gate *gate);

#endif
