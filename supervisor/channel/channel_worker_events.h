/* SPDX-License-Identifier: MIT */
/* The channel as owner of its worker: see struct child_owner. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_WORKER_EVENTS_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_WORKER_EVENTS_H

#include "supervisor/channel/channel.h"

/* child->owner.data is the channel. */
void channel_worker_message(struct child *child, struct message *message);

/* It was waited for: ledger and obituary, then the event DIED. */
void channel_worker_ended(struct child *child, const siginfo_t *end);

#endif
