/* SPDX-License-Identifier: MIT */
/* What the gate says to readers. Nothing here waits: what a socket doesn't take is kept, one answer
 * at most, for no request is served before the one before it is answered. */
#ifndef HOLDFAST_WORKER_GATE_ANSWER_H
#define HOLDFAST_WORKER_GATE_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "worker/gate/gate_state.h"

/* The connection is of no use any more. */
void gate_answer_end(struct gate *gate, struct gate_connection *connection);

/* The answer to the request that is being served. *fd is taken over; fd NULL = none. */
void gate_answer(struct gate *gate, struct gate_connection *connection, enum read_type type,
                 uint32_t request, const void *payload, size_t size, int *fd);
/* Likewise PUBLISHED, with all three. */
void gate_answer_published(struct gate *gate, struct gate_connection *connection, uint32_t request,
                           uint64_t id, int fds[READ_FDS_MAX]);
void gate_answer_refuse(struct gate *gate, struct gate_connection *connection, uint32_t request,
                        int error, const char *reason);
/* The same for -errno, with the table's text for it, or the system's. */
void gate_answer_refuse_for(struct gate *gate, struct gate_connection *connection, uint32_t request,
                            int result, const struct gate_reason *reasons);

/* It has sent what is none of the protocol's: say so if that goes, and end. */
void gate_answer_expel(struct gate *gate, struct gate_connection *connection, uint32_t request,
                       const char *reason);

/* It can't be served, but not because of nonsense. */
void gate_answer_part(struct gate *gate, struct gate_connection *connection, uint32_t request,
                      const char *reason);

/* It is served no longer, for a reason that is no fault of its own or may be over by the next
 * connection: say so if that goes, and end. */
void gate_answer_close(struct gate *gate, struct gate_connection *connection, int error,
                       const char *reason);

/* There is more for it, or its channel's memory has changed. */
void gate_answer_woken(struct gate *gate, struct gate_connection *connection);

/* The socket takes more. */
void gate_answer_flush(struct gate *gate, struct gate_connection *connection);

#endif
