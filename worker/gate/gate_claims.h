/* SPDX-License-Identifier: MIT */
/* Who has which position: one connection each. */
#ifndef HOLDFAST_WORKER_GATE_CLAIMS_H
#define HOLDFAST_WORKER_GATE_CLAIMS_H

#include <stdbool.h>

#include "worker/gate/gate_state.h"

/* Whoever may have it and has it, other than this connection (NULL: anybody). */
bool gate_claims_are_held(const struct gate *gate, const char *channel, const char *name,
                          const struct gate_connection *except);
/* What others are about to read of it is not what it will be. */
void gate_claims_change(const struct gate *gate, const struct gate_claim *changed);
/* Into a claim of this connection that is empty; not firm. */
void gate_claims_take(struct gate *gate, struct gate_connection *owner, struct gate_claim *claim,
                      const struct read_position *position);
void gate_claims_release(struct gate_claim *claim);
/* What it was asking for is its own now, instead of what it had. */
void gate_claims_settle(struct gate *gate, struct gate_connection *owner);

#endif
