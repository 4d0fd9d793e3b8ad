/* SPDX-License-Identifier: MIT */
/* Requests of readers, one after the other for each of them. */
#ifndef HOLDFAST_WORKER_GATE_REQUESTS_H
#define HOLDFAST_WORKER_GATE_REQUESTS_H

#include "worker/gate/gate_state.h"

/* Take some of what has arrived, and serve it or let it wait. */
void gate_requests_receive(struct gate *gate, struct gate_connection *connection);
/* An answer is done, or there is room again: serve what waits. */
void gate_requests_go_on(struct gate *gate, struct gate_connection *connection);

/* This channel has been lent: whoever has asked for it is attached. */
void gate_requests_attach(struct gate *gate, const struct gate_channel *channel);
/* A second after the gate's start: what was not lent by now does not exist. */
void gate_requests_settle(struct gate *gate);

#endif
