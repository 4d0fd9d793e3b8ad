/* SPDX-License-Identifier: MIT */
/* PUBLISH: programs that want to write into a channel, and the outboxes that the supervisor makes
 * for them. */
#ifndef HOLDFAST_WORKER_GATE_PUBLISH_H
#define HOLDFAST_WORKER_GATE_PUBLISH_H

#include <stdint.h>

#include "worker/gate/gate_state.h"

void gate_publish(struct gate *gate, struct gate_connection *connection, uint32_t request,
                  const struct read_publish *wanted);

/* PUBLISHED. Its descriptors are taken over. The connection that it was an answer for; NULL = it
 * has ended. */
struct gate_connection *gate_publish_answered(struct gate *gate,
                                              const struct message_published *published,
                                              int fds[READ_FDS_MAX]);

#endif
