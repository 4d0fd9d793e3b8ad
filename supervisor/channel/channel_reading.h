/* SPDX-License-Identifier: MIT */
/* What readers of a channel are lent: through the gate, which is told of it. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_READING_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_READING_H

#include <stdbool.h>

#include "supervisor/channel/channel.h"

/* Its worker is to wake readers, and gets what that takes. */
bool channel_reading_is_enabled(const struct channel *channel);

/* Whatever may have changed: the gate hears of it, if it doesn't know it yet. */
void channel_reading_follow(struct channel *channel);
/* The same, where it was told to ask again later. */
void channel_reading_look(struct channel *channel);

/* A gate that knows nothing has begun. */
void channel_reading_begin(struct channel *channel);

#endif
