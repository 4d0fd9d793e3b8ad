/* SPDX-License-Identifier: MIT */
/* Log files that are sent as bytes: READ_COPY and READ_SPLICE. */
#ifndef HOLDFAST_WORKER_GATE_SENDING_H
#define HOLDFAST_WORKER_GATE_SENDING_H

#include <stdint.h>

#include "worker/gate/gate_hot.h"
#include "worker/gate/gate_state.h"

/* Answers with a pipe, and sends. The file is taken over. */
void gate_sending_begin(struct gate *gate, struct gate_connection *connection, uint32_t request,
                        const struct read_object *wanted, struct gate_hot_object *object,
                        int *file);

/* The same for a range, which is taken over. */
void gate_sending_begin_range(struct gate *gate, struct gate_connection *connection,
                              uint32_t request, const struct read_range_lent *lent,
                              struct gate_range **range);

/* There is room in the pipe again. */
void gate_sending_go_on(struct gate *gate, struct gate_connection *connection);

/* What was kept for this connection is sent. */
void gate_sending_flushed(struct gate *gate, struct gate_connection *connection);

/* It is not sent any further, and its reader is told why: an errno, positive. */
void gate_sending_give_up(struct gate *gate, struct gate_connection *connection, int error);

/* Ends those that nobody has taken anything from for too long; go_on is called for each. In so many
 * milliseconds there may be another one; -1: nothing waits. */
int gate_sending_look(struct gate *gate, void (*go_on)(struct gate *, struct gate_connection *));

#endif
