/* SPDX-License-Identifier: MIT */
/* What connections ask for, how long the answers take, and how much of it there is lately. */
#ifndef HOLDFAST_WORKER_GATE_ACTIVITY_H
#define HOLDFAST_WORKER_GATE_ACTIVITY_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/gate/gate_state.h"

/* This request is going to be served; connection->since says when it came. */
void gate_activity_begins(struct gate *gate, struct gate_connection *connection, unsigned type,
                          const void *payload);
/* This answer goes out. */
void gate_activity_answered(struct gate *gate, struct gate_connection *connection,
                            enum read_type type);
/* So many bytes of files have gone to it; counted for all elsewhere. */
void gate_activity_gets(struct gate_connection *connection, uint64_t bytes);
/* So many bytes of files have been handed out. */
void gate_activity_hands_out(struct gate *gate, struct gate_connection *connection,
                             enum gate_mode mode, uint64_t bytes);

/* requests_per_second: may it ask now? If so, it has. */
bool gate_activity_is_paced(const struct gate *gate, struct gate_connection *connection);

/* Something came or went, or a request waits: gate_timeouts.h looks at it in time. */
void gate_activity_stirs(struct gate *gate, struct gate_connection *connection);
void gate_activity_waits(struct gate *gate);

/* Per second, over the last few. */
struct gate_activity_rates {
    double requests, bytes;
};
struct gate_activity_rates gate_activity_rates(const struct gate_connection *connection,
                                               monotonic now);

#endif
