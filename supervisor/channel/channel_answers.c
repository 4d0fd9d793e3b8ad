/* SPDX-License-Identifier: MIT */
/* What the archive says to a channel, and attempts that are due, as events for its state machine.
 * Called for every answer, when a new archive runs, and by the recording's timer. Must look how the
 * recording stands after each: a channel that waits for it in OPENING must not wait in vain. */
#include "supervisor/channel/channel_answers.h"

#include "supervisor/channel/channel_durability.h"
#include "supervisor/channel/channel_machine.h"
#include "supervisor/channel/channel_reading.h"
#include "supervisor/channel/channel_recording.h"
#include "supervisor/channel/channel_segments.h"
#include "supervisor/hold/store.h"

/* Whatever happened to the recording may have settled it: OPENING waits for that, and a worker
 * whose numbers the log has overtaken gives way. */
static void follow_recording(struct channel *channel, bool settled_before)
{
    if (channel_recording_settled(channel)) {
        if (channel->life.state == CHANNEL_OPENING)
            channel_machine_handle(channel, CHANNEL_EVENT_OPENED,
                                   channel_recording_how_opened(channel));
        else if (!settled_before && channel_recording_restarts_worker(channel))
            channel_machine_handle(channel, CHANNEL_EVENT_RESTART,
                                   "the log goes on at a later number");
    }
}

void channel_answers_take(struct channel *channel, struct message *message)
{
    if (message->header.type == MESSAGE_SYNCED) {
        channel_durability_answer(channel, message->synced);
        channel_segments_save_refused(channel);
        store_follow(&channel->stored);
        return;
    }
    if (message->header.type == MESSAGE_NUMBERED) {
        channel_segments_numbered(channel, message->numbered);
        return;
    }
    bool settled_before = channel_recording_settled(channel);
    channel_recording_answer(channel, message);
    channel_reading_follow(channel); /* which numbers the log has may be known now */
    follow_recording(channel, settled_before);
    store_follow(&channel->stored); /* the answer may have brought a segment */
}

void channel_answers_archive_back(struct channel *channel)
{
    bool settled_before = channel_recording_settled(channel);
    channel_durability_archive_back(channel);
    channel_recording_archive_back(channel);
    follow_recording(channel, settled_before);
}

int channel_answers_on_retry(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct channel *channel = userdata;
    (void)source;
    (void)time_us;
    bool settled_before = channel_recording_settled(channel);
    channel_segments_retry(channel);
    follow_recording(channel, settled_before);
    return 0;
}
