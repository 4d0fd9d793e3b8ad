/* SPDX-License-Identifier: MIT */
/* Requests for whole log files. */
#ifndef HOLDFAST_WORKER_GATE_OBJECTS_H
#define HOLDFAST_WORKER_GATE_OBJECTS_H

#include <stdint.h>

#include "common/read_protocol.h"
#include "worker/gate/gate_state.h"

void gate_objects_serve(struct gate *gate, struct gate_connection *connection, uint32_t request,
                        const struct read_object *wanted);

#endif
