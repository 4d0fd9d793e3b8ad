/* SPDX-License-Identifier: MIT */
/* Closing readers' sockets without waiting for what they have left in them. */
#ifndef HOLDFAST_WORKER_GATE_CLOSING_H
#define HOLDFAST_WORKER_GATE_CLOSING_H

#include <stdbool.h>

#include "worker/gate/gate_state.h"

/* Before anything is accepted: keep descriptors of readers away, where the kernel can do that. 0 or
 * -errno. */
int gate_closing_prepare(struct gate *gate);

/* Does this socket's next packet bring descriptors? It must not be received then. Never where they
 * are kept away. */
bool gate_closing_has_descriptors(const struct gate *gate, int fd);

/* Close the socket of a connection that nobody needs any more. false: a thread does it, and the
 * connection stays counted until gate_closing_take(). */
bool gate_closing_close(struct gate *gate, struct gate_connection *connection);
/* Those that are closed: done() is called for each. */
void gate_closing_take(struct gate *gate, void (*done)(struct gate *, struct gate_connection *));

/* A socket that never became a connection. */
void gate_closing_turn_away(struct gate *gate, int *fd);
/* So many of those are held up that no more should be accepted for now. */
bool gate_closing_is_held_up(const struct gate *gate);

#endif
