/* SPDX-License-Identifier: MIT */
/* One publisher's outbox as a worker has it: made and unmade by the control thread, worked off by
 * the receiver. */
#ifndef HOLDFAST_WORKER_CHANNEL_INTAKE_BOX_H
#define HOLDFAST_WORKER_CHANNEL_INTAKE_BOX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/channel_page_outboxes.h"
#include "common/message.h"
#include "common/outbox.h"

#define INTAKE_MARKS 16

/* When everything before seq is durable, so are the first `count` datagrams of this publisher. */
struct intake_mark {
    uint64_t seq, count;
};

struct intake_box {
    struct intake_box *next; /* on its way between the two threads */
    uint64_t id;
    uint32_t place;
    int box, answer, bell, call;
    struct outbox_consumer consumer;
    uint64_t count;      /* datagrams taken */
    uint64_t address[2]; /* its publisher, as descriptors have sources */
    uint64_t origin;
    struct intake_mark marks[INTAKE_MARKS]; /* oldest first */
    uint32_t mark_count;
    bool hung_up;       /* its publisher is gone: what is in it is all there will be */
    bool touched;       /* in the present batch */
    const char *broken; /* why it is cut off; NULL: it isn't */
};

/* Map it; it goes on where `entry` says, if that is about this one, else where the answer says.
 * Takes the descriptors. NULL with *ret_error. */
struct intake_box *intake_box_new(const struct message_outbox *outbox, int fds[OUTBOX_FDS],
                                  const struct outbox_entry *entry, uint32_t max_datagram,
                                  int *ret_error);
/* In the place of one that can't be had: to say that it is done with. NULL: no memory. */
struct intake_box *intake_box_of_none(const struct message_outbox *outbox);
void intake_box_free(struct intake_box **box);

/* Its publisher is to look. Never waits. */
void intake_box_ring(const struct intake_box *box);

/* What was taken up to now is durable when everything before seq is. */
void intake_box_mark(struct intake_box *box, uint64_t seq);
/* Everything before seq is. */
void intake_box_durable(struct intake_box *box, uint64_t seq);

#endif
