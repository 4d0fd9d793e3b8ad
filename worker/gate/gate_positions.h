/* SPDX-License-Identifier: MIT */
/* Named positions: CLAIM, SAVE, FORGET and POSITIONS. */
#ifndef HOLDFAST_WORKER_GATE_POSITIONS_H
#define HOLDFAST_WORKER_GATE_POSITIONS_H

#include <stdint.h>

#include "worker/gate/gate_state.h"

void gate_positions_claim(struct gate *gate, struct gate_connection *connection, uint32_t request,
                          const struct read_position *wanted);
void gate_positions_save(struct gate *gate, struct gate_connection *connection, uint32_t request,
                         const struct read_position *wanted);
void gate_positions_forget(struct gate *gate, struct gate_connection *connection, uint32_t request,
                           const struct read_position *wanted);
void gate_positions_list(struct gate *gate, struct gate_connection *connection, uint32_t request,
                         const struct read_list_positions *wanted);

/* POSITION_SAVED. The connection that it was an answer for; NULL = it has ended. */
struct gate_connection *gate_positions_saved(struct gate *gate,
                                             const struct message_position_saved *saved);

#endif
