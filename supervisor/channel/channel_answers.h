/* SPDX-License-Identifier: MIT */
/* What the archive says to a channel. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_ANSWERS_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_ANSWERS_H

#include "supervisor/channel/channel.h"

/* RECOVERED or SEGMENT. Takes the fds it wants. */
void channel_answers_take(struct channel *channel, struct message *message);
/* A new archive runs: what was asked of the one before is asked again. */
void channel_answers_archive_back(struct channel *channel);
/* For channel->recording.on_retry. */
int channel_answers_on_retry(sd_event_source *source, uint64_t time_us, void *userdata);

#endif
