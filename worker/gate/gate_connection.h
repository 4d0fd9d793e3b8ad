/* SPDX-License-Identifier: MIT */
/* Connections of readers: how they begin and end, and how many there may be. */
#ifndef HOLDFAST_WORKER_GATE_CONNECTION_H
#define HOLDFAST_WORKER_GATE_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/gate/gate_state.h"

/* Before anything else: nothing is open, and nothing accepted yet. 0 or -errno. */
int gate_connection_prepare(struct gate *gate);

/* gate->limits has been told: say so where that many connections can't be had. */
void gate_connection_limit(struct gate *gate);

/* So many there may be, as the number of channels is now: each has a descriptor. */
uint32_t gate_connection_most(const struct gate *gate);

/* Over TCP, too, from now on. The fd is taken over, also where it fails. 0 or -errno. */
int gate_connection_listen(struct gate *gate, int *fd);

/* Take what waits at this listening socket, a few at a time. Where this process can have no more
 * descriptors, it stops taking until one ends. */
void gate_connection_accept(struct gate *gate, int listening);
/* Take connections, or leave them where they wait. */
void gate_connection_set_accepting(struct gate *gate, bool accepting);

/* By slot and number; NULL when it has ended. */
struct gate_connection *gate_connection_of(struct gate *gate, uint32_t slot, uint64_t number);

/* When threads are to work for its user: gate_pool_submit(). */
uint64_t *gate_connection_turn(struct gate *gate, const struct gate_connection *connection,
                               const struct gate_pool *pool);

/* Forget those that have ended. At the end of a turn, when nobody looks at them any more. */
void gate_connection_reap(struct gate *gate);
/* Those that had not received all that they were lent. Called now and then while there are any. */
void gate_connection_look_at_lingering(struct gate *gate);
/* One that has ended, and has got what it was still owed: its `turn` is 0. It may be gone then. */
void gate_connection_settle(struct gate *gate, struct gate_connection *connection);
/* Those whose sockets a thread has closed. */
void gate_connection_take_closed(struct gate *gate);

#endif
