/* SPDX-License-Identifier: MIT */
/* How a channel with publishers receives: out of their outboxes (common/outbox.h) instead of a
 * socket. */
#ifndef HOLDFAST_WORKER_CHANNEL_INTAKE_H
#define HOLDFAST_WORKER_CHANNEL_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/message.h"
#include "common/outbox.h"

struct channel_state;
struct intake;

/* After the takeover, before there is another thread. 0 or -errno. */
int intake_open(struct channel_state *channel);

/* ---- the control thread ---- */

/* Take from this one, too. Takes the descriptors. */
void intake_offer(struct intake *intake, const struct message_outbox *outbox, int fds[OUTBOX_FDS]);
/* The next one that is done with. false: there is none. */
bool intake_see_done(struct intake *intake, struct message_outbox_done *ret);
/* ... and that was told. */
void intake_forget_done(struct intake *intake);

/* ---- the syncer ---- */

/* Datagrams before next_seq are on the disk. */
void intake_durable(struct intake *intake, uint64_t next_seq);

/* ---- the receiver ---- */

/* At most so many datagrams, for which there must be room, from everybody in turn: into the ring,
 * published. How many; 0: there is nothing. */
uint32_t intake_take(struct intake *intake, uint32_t most);
/* Until there may be something, or a signal comes. */
void intake_wait(struct intake *intake);

#endif
