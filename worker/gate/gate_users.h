/* SPDX-License-Identifier: MIT */
/* What each user has of the gate: connections, and descriptors that are under way to him. Whoever
 * comes over TCP is an address instead: gate_peer.h. */
#ifndef HOLDFAST_WORKER_GATE_USERS_H
#define HOLDFAST_WORKER_GATE_USERS_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/gate/gate_state.h"

/* NULL: he has no connection. Valid until one ends. */
struct gate_user *gate_users_find(struct gate *gate, uint64_t peer);

/* A connection of his begins, ends. */
void gate_users_count(struct gate *gate, uint64_t peer);
void gate_users_uncount(struct gate *gate, const struct gate_connection *connection);

/* May one more descriptor be sent to its user? lent_per_user. */
bool gate_users_may_lend(struct gate *gate, const struct gate_connection *connection);
/* So many were sent. */
void gate_users_lent(struct gate *gate, struct gate_connection *connection, uint32_t count);
/* All that was sent has been read. */
void gate_users_received(struct gate *gate, struct gate_connection *connection);

#endif
