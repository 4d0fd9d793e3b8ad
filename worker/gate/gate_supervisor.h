/* SPDX-License-Identifier: MIT */
/* What the gate says to the supervisor. Nothing here waits: what fd 3 doesn't take is kept, no more
 * than one thing for each connection. */
#ifndef HOLDFAST_WORKER_GATE_SUPERVISOR_H
#define HOLDFAST_WORKER_GATE_SUPERVISOR_H

#include <stdbool.h>

#include "worker/gate/gate_state.h"

/* false: out of memory. */
bool gate_supervisor_save(struct gate *gate, const struct message_position_save *save);
/* GATE_REPORT with what is in gate->reporting.last. false: not now. */
bool gate_supervisor_report(struct gate *gate);
/* It takes more, or there is more for it. */
void gate_supervisor_flush(struct gate *gate);

#endif
