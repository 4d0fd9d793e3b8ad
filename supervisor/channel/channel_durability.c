/* SPDX-License-Identifier: MIT */
/* Has the archive make durable what a worker has committed and left, where its successor is late,
 * dies as soon as it comes, or is not to be. Called after deaths and by the regular look. Must
 * never write what a worker writes while there is one, nor say that something is durable while
 * anything before it is not. */
#include "supervisor/channel/channel_durability.h"

#include <string.h>

#include "common/channel_page.h"
#include "common/channel_page_refused.h"
#include "common/log.h"
#include "supervisor/archive/archive_client.h"

/* An archive that can't do it is not asked all the time. */
#define AGAIN_NS (10 * NS_PER_S)

/* Of the ring's last worker. Where it isn't known, or can't be, long ago. */
static monotonic last_sync(const struct channel *channel, monotonic now)
{
    uint64_t ns =
        atomic_load_explicit(&channel->hold.page->private.synced_ns, memory_order_relaxed);
    return (monotonic){ns <= now.ns ? ns : 0};
}

/* By the clock as a worker would; by count, nobody knows how many there were: it is time when there
 * is none to go on counting. */
static bool is_due(const struct channel *channel, monotonic now)
{
    const struct record_spec *record = &channel->spec->record;
    if (record->sync_ns && monotonic_since(now, last_sync(channel, now)) >= record->sync_ns)
        return true;
    return record->sync_every && !channel->lent.worker;
}

static bool is_behind(const struct channel *channel, struct commit_progress *ret_commit)
{
    const struct channel_page *page = channel->hold.page;
    return page && channel->hold.segment >= 0 && channel_page_read_commit(page, ret_commit) &&
           ret_commit->segment_id != 0 &&
           channel_page_durable(page, ret_commit->segment_id) < ret_commit->write_offset;
}

bool channel_durability_was_refused(const struct channel *channel, uint64_t segment_id)
{
    return channel->hold.page && channel_page_was_refused(channel->hold.page, segment_id);
}

/* To be said only of segments of which the disk has taken all so far. */
bool channel_durability_any_refused(const struct channel *channel)
{
    return (channel->hold.segment >= 0 &&
            channel_durability_was_refused(channel, channel->hold.segment_grant.id)) ||
           (channel->hold.next >= 0 &&
            channel_durability_was_refused(channel, channel->hold.next_grant.id));
}

/* While a segment from before can't be sealed, nothing is said to be durable: nor is the disk
 * worked more often than it would be without that. */
static bool is_soon(const struct channel *channel, monotonic now)
{
    const struct channel_durability *durability = &channel->durability;
    uint64_t interval = channel->spec->record.sync_ns ? channel->spec->record.sync_ns : AGAIN_NS;
    uint64_t since = monotonic_since(now, durability->asked_at);
    if (durability->told && since < AGAIN_NS)
        return true;
    return since < interval &&
           archive_client_is_to_seal(channel->host->archive, channel->spec->name);
}

void channel_durability_look(struct channel *channel, monotonic now)
{
    struct channel_durability *durability = &channel->durability;
    const struct hold *hold = &channel->hold;
    struct commit_progress commit;
    if (!channel->spec->record.enabled || durability->asked || !is_behind(channel, &commit) ||
        channel_durability_any_refused(channel) || !is_due(channel, now) || is_soon(channel, now))
        return;
    struct message_sync sync = {
        .turn = ++durability->turn,
        .id = {hold->segment_grant.id, hold->next >= 0 ? hold->next_grant.id : 0}};
    memcpy(sync.channel, channel->spec->name, sizeof sync.channel);
    if (archive_client_sync(channel->host->archive, &sync) < 0)
        return; /* the next look asks again */
    durability->asked = true;
    durability->asked_at = now;
    durability->segment_id = commit.segment_id;
    durability->offset = commit.write_offset;
    memcpy(durability->id, sync.id, sizeof durability->id);
}

/* Until the first worker that gets the ring: from then on it is the worker's to say. One that has
 * come and gone meanwhile may have said more. */
static bool may_say_so(const struct channel *channel)
{
    const struct channel_durability *durability = &channel->durability;
    struct commit_progress commit;
    return !channel->lent.worker && is_behind(channel, &commit) &&
           commit.segment_id == durability->segment_id &&
           channel_page_durable(channel->hold.page, commit.segment_id) < durability->offset &&
           !channel_page_any_refused(channel->hold.page) &&
           !archive_client_is_to_seal(channel->host->archive, channel->spec->name);
}

/* Which of the two it was is not known; only those have records that the slot names, or left. */
static void note_refused(const struct channel *channel)
{
    const struct channel_durability *durability = &channel->durability;
    if (!channel->hold.page)
        return;
    channel_page_note_refused(channel->hold.page, durability->id[0]);
    if (durability->id[1] == durability->segment_id)
        channel_page_note_refused(channel->hold.page, durability->id[1]);
}

void channel_durability_answer(struct channel *channel, const struct message_synced *synced)
{
    struct channel_durability *durability = &channel->durability;
    if (!durability->asked || synced->turn != durability->turn)
        return;
    durability->asked = false;
    if (synced->error && synced->refused) {
        log_error("channel %s: the disk has refused what its last worker has recorded: %s; it is "
                  "copied to another file when nobody writes there",
                  channel->spec->name, strerror(synced->error));
        note_refused(channel);
        return;
    }
    if (synced->error) {
        if (!durability->told)
            log_error("channel %s: what its last worker has recorded can't be made durable: %s; "
                      "tried again while no other one does it",
                      channel->spec->name, strerror(synced->error));
        durability->told = true;
        return;
    }
    durability->told = false;
    if (!may_say_so(channel))
        return;
    struct channel_page *page = channel->hold.page;
    channel_page_write_durable(page, durability->segment_id, durability->offset);
    atomic_store_explicit(&page->private.synced_ns, durability->asked_at.ns, memory_order_relaxed);
}

void channel_durability_archive_back(struct channel *channel)
{
    channel->durability.asked = false;
}
