/* SPDX-License-Identifier: MIT */
/* Requests about log files: FIND, SEGMENTS and LIST. */
#ifndef HOLDFAST_WORKER_GATE_LOOKUPS_H
#define HOLDFAST_WORKER_GATE_LOOKUPS_H

#include <stdint.h>

#include "worker/gate/gate_state.h"

void gate_lookups_find(struct gate *gate, struct gate_connection *connection, uint32_t request,
                       const struct read_find *wanted);
void gate_lookups_segments(struct gate *gate, struct gate_connection *connection, uint32_t request,
                           const struct read_list_segments *wanted);
void gate_lookups_list(struct gate *gate, struct gate_connection *connection, uint32_t request,
                       const struct read_list *wanted);

/* Why a log file can't be had. */
extern const struct gate_reason gate_lookups_reasons[];

#endif
