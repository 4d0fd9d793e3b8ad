/* SPDX-License-Identifier: MIT */
/* Readers that sleep until there is more: ARM, the bell, and other memory. */
#ifndef HOLDFAST_WORKER_GATE_WAKING_H
#define HOLDFAST_WORKER_GATE_WAKING_H

#include "worker/gate/gate_state.h"

/* ARM. Replaces an earlier one of the connection. */
void gate_waking_arm(struct gate *gate, struct gate_connection *connection,
                     const struct read_arm *arm);
void gate_waking_disarm(struct gate *gate, struct gate_connection *connection);

/* The bell rang: look at every channel that somebody waits for. */
void gate_waking_look(struct gate *gate);
/* This channel was lent anew. */
void gate_waking_look_at(struct gate *gate, struct gate_channel *channel);

/* This channel goes away: everybody who reads it is told, and reads none any more. */
void gate_waking_part(struct gate *gate, struct gate_channel *channel);

#endif
