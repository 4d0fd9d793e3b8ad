/* SPDX-License-Identifier: MIT */
/* What an operator may ask of a channel, as events for its state machine. Called by the control
 * socket's verbs; what is refused is refused with a reason and what to do instead. Asking for what
 * is the case already is no error. */
#include "supervisor/channel/channel_verbs.h"

#include <errno.h>

#include "supervisor/channel/channel_former.h"
#include "supervisor/channel/channel_history.h"
#include "supervisor/channel/channel_machine.h"
#include "supervisor/channel/channel_segments.h"

static int refuse_what_ends(const struct channel *channel, const char **ret_why)
{
    if (channel->former.removed)
        *ret_why = "the configuration doesn't have it any more; it ends when what is left of it is "
                   "recorded";
    else if (channel->host->phase >= PHASE_STOPS)
        *ret_why = "the supervisor is shutting down";
    else
        return 0;
    return -ESHUTDOWN;
}

static void keep_stopped(struct channel *channel, bool stopped)
{
    channel->life.kept_stopped = stopped;
    channel_history_save(channel);
}

int channel_verb_start(struct channel *channel, const char **ret_why)
{
    if (refuse_what_ends(channel, ret_why) < 0)
        return -ESHUTDOWN;
    channel_former_want(channel);
    keep_stopped(channel, false);
    channel_machine_handle(channel, CHANNEL_EVENT_START, "an operator started it");
    return 0;
}

int channel_verb_stop(struct channel *channel, const char **ret_why)
{
    if (refuse_what_ends(channel, ret_why) < 0)
        return -ESHUTDOWN;
    channel->former.wanted = false;
    keep_stopped(channel, true);
    channel_machine_handle(channel, CHANNEL_EVENT_STOP, "an operator stopped it");
    return 0;
}

int channel_verb_restart(struct channel *channel, const char **ret_why)
{
    if (refuse_what_ends(channel, ret_why) < 0)
        return -ESHUTDOWN;
    if (channel->life.state == CHANNEL_STOPPED ||
        (channel->life.state == CHANNEL_STOPPING && !channel_former_is_wanted(channel))) {
        *ret_why = "it is stopped: start it first";
        return -EINVAL;
    }
    channel_machine_handle(channel, CHANNEL_EVENT_RESTART, "an operator restarted it");
    return 0;
}

int channel_verb_reset_failed(struct channel *channel, const char **ret_why)
{
    if (refuse_what_ends(channel, ret_why) < 0)
        return -ESHUTDOWN;
    channel_machine_handle(channel, CHANNEL_EVENT_RESET, "an operator reset its failures");
    return 0;
}

int channel_verb_rotate(struct channel *channel, const char **ret_why)
{
    if (refuse_what_ends(channel, ret_why) < 0)
        return -ESHUTDOWN;
    if (!channel->spec->record.enabled) {
        *ret_why = "it has no record section: there is no log to rotate";
        return -EINVAL;
    }
    if (channel->life.state != CHANNEL_RUNNING) {
        *ret_why = "it is not running: start it first, or wait until it runs again";
        return -EAGAIN;
    }
    if (channel->recording.state != RECORDING_OPEN) {
        *ret_why = "its log is in trouble (see status): a new segment is asked for anyway";
        return -EAGAIN;
    }
    if (channel_segments_is_empty(channel)) {
        *ret_why = "its current segment is empty: nothing to rotate";
        return CHANNEL_VERB_NOTHING;
    }
    return channel_segments_rotate(channel, ret_why);
}
