/* SPDX-License-Identifier: MIT */
/* Requests that need a disk: to the pool and back. */
#ifndef HOLDFAST_WORKER_GATE_WORK_H
#define HOLDFAST_WORKER_GATE_WORK_H

#include <stddef.h>
#include <stdint.h>

#include "worker/gate/gate_state.h"

/* What a thread is to do for this request. size: of what begins with a gate_work. run() is called
 * in a thread, finish() in the main loop. channel: whose folder it looks into; NULL: it is no
 * single channel's, and `pool` or its `place_busy` is the caller's to set. NULL is returned when
 * there is no memory, and the request was refused. */
void *gate_work_new(struct gate *gate, struct gate_connection *connection, uint32_t request,
                    size_t size, struct gate_channel *channel);

/* Take it over: it comes back through finish(), or the request is refused right away. */
void gate_work_submit(struct gate *gate, struct gate_connection *connection,
                      struct gate_work *work);

/* Nobody waits for its thread any more: the caller answers, or has. */
void gate_work_abandon(struct gate_connection *connection);

/* Finish what the threads of this pool have done. */
void gate_work_take(struct gate *gate, struct gate_pool *pool,
                    void (*go_on)(struct gate *, struct gate_connection *));

#endif
