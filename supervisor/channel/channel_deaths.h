/* SPDX-License-Identifier: MIT */
/* What is known of the deaths of a channel's workers, and what they cost. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_DEATHS_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_DEATHS_H

#include "supervisor/channel/channel.h"

/* The worker was waited for: note for its successor what it died of, and write its obituary. NULL
 * when its end was asked for, or there is no memory. */
const struct obituary *channel_deaths_note(struct channel *channel, const siginfo_t *end);

/* Its successor is READY: the obituary learns what the takeover took. */
void channel_deaths_note_takeover(struct channel *channel, const struct message_ready *ready);

/* A little later: what the takeover cost. */
void channel_deaths_complete(struct channel *channel);

#endif
