/* SPDX-License-Identifier: MIT */
/* What the gate says to the supervisor. Nothing here waits: what fd 3 doesn't take is kept, no more
 * than one thing for each connection. */
#ifndef HOLDFAST_WORKER_GATE_SUPERVISOR_H
#define HOLDFAST_WORKER_GATE_SUPERVISOR_H

#include <stdbool.h>

#include "worker/gate/gate_state.h"

/* A number for what this connection asks: never given twice. */
uint64_t gate_supervisor_turn(struct gate *gate, const struct gate_connection *connection);
/* Whose turn it was, which ends here; NULL: nobody's. It may have ended: gate_connection_settle().
 */
struct gate_connection *gate_supervisor_answered(struct gate *gate, uint64_t turn, bool publishes);

/* false: out of memory. */
bool gate_supervisor_save(struct gate *gate, const struct message_position_save *save);
bool gate_supervisor_publish(struct gate *gate, const struct message_publish *publish);
/* GATE_REPORT with what is in gate->reporting.last. false: not now. */
bool gate_supervisor_report(struct gate *gate);
/* It takes more, or there is more for it. */
void gate_supervisor_flush(struct gate *gate);

#endif
