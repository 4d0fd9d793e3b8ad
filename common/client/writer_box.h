/* SPDX-License-Identifier: MIT */
/* What becomes of a writer's outbox: it ends, another one comes, and what nobody has taken is
 * carried over. Nothing here waits. */
#ifndef HOLDFAST_COMMON_CLIENT_WRITER_BOX_H
#define HOLDFAST_COMMON_CLIENT_WRITER_BOX_H

#include "common/client/writer_state.h"

/* Do what is due: the bell, the gate, another outbox. The one that is written into stays while a
 * reservation is open. */
void writer_box_look(struct writer *writer);

/* The worker sleeps, and there is something for it. */
void writer_box_call(const struct writer *writer);

/* How many of the committed datagrams are known to be on the disk. */
uint64_t writer_box_durable(const struct writer *writer);

/* Bytes that nobody has taken; not the records that are there twice just now. */
uint64_t writer_box_untaken(const struct writer *writer);

void writer_box_close(struct writer *writer);

#endif
