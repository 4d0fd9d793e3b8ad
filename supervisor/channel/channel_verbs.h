/* SPDX-License-Identifier: MIT */
/* What an operator may ask of a channel. 0, or -errno with *ret_why for the operator ("it is
 * stopped: start it first"), or CHANNEL_VERB_NOTHING, which is no error, with *ret_why. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_VERBS_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_VERBS_H

#include "supervisor/channel/channel.h"

enum { CHANNEL_VERB_NOTHING = 1 }; /* there is nothing to do, and nothing will come of it */

int channel_verb_start(struct channel *channel, const char **ret_why);
int channel_verb_stop(struct channel *channel, const char **ret_why);
int channel_verb_restart(struct channel *channel, const char **ret_why);
int channel_verb_reset_failed(struct channel *channel, const char **ret_why);
int channel_verb_rotate(struct channel *channel, const char **ret_why);

#endif
