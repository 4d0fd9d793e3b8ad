/* SPDX-License-Identifier: MIT */
/* Programs that write into a channel: they get an outbox, and its worker gets it too. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_PUBLISHERS_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_PUBLISHERS_H

#include "common/message.h"
#include "common/outbox.h"
#include "supervisor/channel/channel.h"

/* One more; channel NULL: there is none of that name. *ret is the answer, ret_fds its descriptors,
 * the caller's; -1 each where it is an error. */
void channel_publishers_admit(struct channel *channel, const struct message_publish *wanted,
                              struct message_published *ret, int ret_fds[OUTBOX_FDS]);

/* A worker has the hold now: it is told of every outbox that it doesn't know. Called again now and
 * then, for what could not be told. */
void channel_publishers_lend(struct channel *channel);

/* The worker is done with one. */
void channel_publishers_done(struct channel *channel, const struct message_outbox_done *done);

/* The end of everything: what is not taken stays its publishers'. */
void channel_publishers_dismiss(struct channel *channel);

#endif
