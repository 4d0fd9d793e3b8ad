/* SPDX-License-Identifier: MIT */
/* Requests for records by number. */
#ifndef HOLDFAST_WORKER_GATE_RANGES_H
#define HOLDFAST_WORKER_GATE_RANGES_H

#include <stdint.h>

#include "common/read_protocol.h"
#include "worker/gate/gate_state.h"

void gate_ranges_serve(struct gate *gate, struct gate_connection *connection, uint32_t request,
                       const struct read_range *wanted);

#endif
