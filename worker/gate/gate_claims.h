/* SPDX-License-Identifier: MIT */
/* Who has which position: one connection each. */
#ifndef HOLDFAST_WORKER_GATE_CLAIMS_H
#define HOLDFAST_WORKER_GATE_CLAIMS_H

#include <stdbool.h>

#include "worker/gate/gate_state.h"

/* NULL when nobody has it. */
struct gate_claim *gate_claims_find(const struct gate *gate, const char *channel, const char *name);
/* Into a claim of this connection that is empty. */
void gate_claims_take(struct gate *gate, struct gate_connection *owner, struct gate_claim *claim,
                      const struct read_position *position);
void gate_claims_release(struct gate_claim *claim);
/* What it was asking for is its own now, instead of what it had. */
void gate_claims_settle(struct gate *gate, struct gate_connection *owner);

#endif
