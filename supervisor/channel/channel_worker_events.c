/* SPDX-License-Identifier: MIT */
/* What a channel's worker says, and its end, as events of the state machine. Called by its child
 * (child.c), whose owner the channel is. Must never take a worker's word for what only the hold can
 * tell. */
#include "supervisor/channel/channel_worker_events.h"

#include <stdio.h>

#include "common/fd.h"
#include "common/log.h"
#include "supervisor/channel/channel_deaths.h"
#include "supervisor/channel/channel_durability.h"
#include "supervisor/channel/channel_history.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/channel/channel_lend.h"
#include "supervisor/channel/channel_machine.h"
#include "supervisor/channel/channel_publishers.h"
#include "supervisor/channel/channel_segments.h"
#include "supervisor/channel/channel_ring.h"
#include "supervisor/child/child.h"
#include "supervisor/child/obituary.h"
#include "supervisor/child/spares.h"
#include "supervisor/system/process.h"

static void worker_ready(struct channel *channel, const struct message_ready *ready)
{
    struct child *worker = channel->lent.worker;
    char cause[200];

    channel->lent.ready = !ready->ring_refused;
    if (channel->life.state == CHANNEL_STOPPING) {
        if (ready->ring_refused)
            channel_ring_refused(channel, ready->reason);
        return;
    }
    if (channel->life.state != CHANNEL_STARTING) {
        child_violated(worker, "READY twice");
        return;
    }
    if (ready->ring_refused) {
        channel_ring_refused(channel, ready->reason);
        return;
    }
    fd_close(&channel->hold.old_ring); /* what was in it is in the present one */
    snprintf(channel->lent.ring_reason, sizeof channel->lent.ring_reason, "%s", ready->reason);
    snprintf(cause, sizeof cause, "%s is ready", child_describe(worker));
    if (channel->takeover.cause != DEATH_NONE)
        channel_deaths_note_takeover(channel, ready);
    bool was_takeover = channel->takeover.cause != DEATH_NONE;
    channel->takeover.cause = DEATH_NONE;
    channel_machine_handle(channel, CHANNEL_EVENT_READY, cause);
    if (was_takeover)
        channel_history_save(channel);
}

void channel_worker_message(struct child *child, struct message *message)
{
    struct channel *channel = child->owner.data;
    switch (message->header.type) {
    case MESSAGE_READY:
        spares_prove(channel->host->spares, child);
        worker_ready(channel, message->ready);
        break;
    case MESSAGE_SEGMENT_WANTED:
        channel_segments_wanted(channel);
        break;
    case MESSAGE_SEGMENT_DONE:
        channel_segments_done(channel, message->segment_done);
        break;
    case MESSAGE_SEGMENT_FAILED:
        channel_segments_failed(channel, message->segment_failed);
        break;
    case MESSAGE_OUTBOX_DONE:
        channel_publishers_done(channel, message->outbox_done);
        break;
    case MESSAGE_BYE:
        channel->lent.bye_received = true;
        channel->lent.bye = *message->bye;
        break;
    default:
        child_violated(child, "a message that is not a worker's to send");
        break;
    }
}

void channel_worker_ended(struct child *child, const siginfo_t *end)
{
    struct channel *channel = child->owner.data;
    char how[PROCESS_END_SIZE], cause[PROCESS_END_SIZE + 128];
    const struct channel_hang *hang = &channel->hang;

    process_describe_end(end, how, sizeof how);
    snprintf(cause, sizeof cause, "%s %s%s%s%s", child_describe(child), how,
             hang->aborted ? ": its " : "", hang->aborted ? hang->thread : "",
             hang->aborted ? " gave no sign of life" : "");
    if (process_exec_error(end)) {
        channel_lend_take_back(channel);
        log_error("channel %s: %s", channel->spec->name, cause);
        channel_machine_handle(channel, CHANNEL_EVENT_DIED, cause);
        return;
    }
    channel_ledger_look(channel);
    channel_deaths_complete(channel);
    if (channel->lent.bye_received && channel->life.state != CHANNEL_STOPPING) {
        log_error("channel %s: %s gave up its socket; a new one is opened", channel->spec->name,
                  child_describe(child));
        fd_close(&channel->hold.rx);
    }
    const struct obituary *obituary = channel_deaths_note(channel, end);
    channel->lent.worker = NULL;
    channel_machine_handle(channel, CHANNEL_EVENT_DIED, cause);
    if (obituary) { /* the successor first: datagrams wait for it */
        obituary_log(channel->spec->name, obituary);
        channel_history_save(channel);
    }
    channel_durability_look(channel, monotonic_now());
}
