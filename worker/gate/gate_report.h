/* SPDX-License-Identifier: MIT */
/* What the gate counts, and who reads. */
#ifndef HOLDFAST_WORKER_GATE_REPORT_H
#define HOLDFAST_WORKER_GATE_REPORT_H

#include <stdint.h>

#include "worker/gate/gate_state.h"

/* 0 or -errno. */
int gate_report_open(struct gate *gate);

/* At the end of a turn: where something has changed, a report follows within a second. */
void gate_report_later(struct gate *gate);
/* The second is over. */
void gate_report_tick(struct gate *gate);
/* GATE_ASK: report now, changed or not. */
void gate_report_now(struct gate *gate);

/* READERS: the connections behind this number. */
void gate_report_readers(struct gate *gate, struct gate_connection *connection, uint32_t request,
                         uint64_t after);

#endif
