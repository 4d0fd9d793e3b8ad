/* SPDX-License-Identifier: MIT */
/* The segments that a channel's worker writes: what it says about them, an operator's rotate, and
 * letting go of them; channel_recording.c is the archive's side. Called with the worker's messages,
 * by the retry timer, and where a ring is given up. Must never lose track of a segment: each is
 * held, or was given to archive_client_seal(); nor take a worker's word for that one is empty. */
#include "supervisor/channel/channel_segments.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/avro_log_name.h"
#include "common/channel_page.h"
#include "common/channel_page_refused.h"
#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel_durability.h"
#include "supervisor/channel/channel_history.h"
#include "supervisor/channel/channel_recording.h"
#include "supervisor/child/child.h"
#include "supervisor/hold/store.h"
#include "supervisor/system/timer.h"

/* It may be one bad file; then the next one is wanted soon. */
#define REFUSALS_AT_ONCE 3

static struct archive_client *archive_of(const struct channel *channel)
{
    return channel->host->archive;
}

static bool needs_next(const struct channel *channel)
{
    return channel->recording.state == RECORDING_OPEN && channel->hold.next < 0 &&
           !channel->recording.next_requested;
}

/* Without an archive it stays asked for: channel_recording_archive_back(). The worker asks again
 * every 2 s. */
static void ask_for_next(struct channel *channel)
{
    int error = channel_recording_ask_for_segment(channel);
    channel->recording.next_requested = error == 0 || error == -ENOTCONN || error == -EPIPE;
}

void channel_segments_retry(struct channel *channel)
{
    if (channel->recording.state == RECORDING_TROUBLE) {
        channel_recording_request(channel);
    } else if (channel->recording.next_retry) {
        channel->recording.next_retry = false;
        if (needs_next(channel))
            ask_for_next(channel);
    }
}

/* A disk that gives room and refuses what is written would have whole segments made and given up as
 * fast as it can. */
void channel_segments_wanted(struct channel *channel)
{
    struct channel_recording *recording = &channel->recording;
    if (!needs_next(channel) || recording->next_retry)
        return;
    if (recording->refusals < REFUSALS_AT_ONCE) {
        ask_for_next(channel);
        return;
    }
    if (recording->failures < recording->refusals)
        recording->failures = recording->refusals;
    recording->next_retry = true;
    channel_recording_arm_retry(channel);
}

/* As the worker has it: what it says about its segments may still be under way. When the page can't
 * be read, the worker shall decide. */
bool channel_segments_is_empty(const struct channel *channel)
{
    const struct channel_page *page = channel->hold.page;
    struct commit_progress commit;
    if (!page || !channel_page_read_commit(page, &commit))
        return false;
    bool has_records = commit.segment_id != 0 && commit.next_seq != commit.segment_first_seq;
    return !has_records &&
           atomic_load_explicit(&page->public.published, memory_order_acquire) == commit.next_seq;
}

int channel_segments_rotate(struct channel *channel, const char **ret_why)
{
    struct message_empty empty = {0};
    int error = child_send(channel->lent.worker, MESSAGE_ROTATE, &empty, sizeof empty, NULL, 0);
    if (error < 0) {
        *ret_why = "its worker can't be reached just now: try again";
        return error;
    }
    channel_segments_wanted(channel);
    return 0;
}

static void begin_current(struct channel *channel, const struct message_segment_done *done)
{
    struct segment_grant *grant = &channel->hold.segment_grant;
    snprintf(channel->recording.began_as, sizeof channel->recording.began_as, "%s", grant->name);
    avro_log_segment_name(channel->spec->name, done->begun_first_seq, done->begun_created_ns,
                          grant->name);
    channel->recording.begun = true;
    if (!channel->recording.cleaning)
        channel_recording_ask_to_begin(channel);
    log_info("channel %s: recording to %s", channel->spec->name, grant->name);
}

/* Seal the current segment at this length, or let the archive find it out (UINT64_MAX), and let go
 * of it. failed: writing it did. */
static void release_written(struct channel *channel, uint64_t length, bool failed)
{
    struct hold *hold = &channel->hold;
    if (hold->segment < 0)
        return;
    if (length > hold->segment_grant.size)
        length = UINT64_MAX;
    if (channel->recording.cleaning &&
        channel->recording.begun) { /* it still has its old name; recovery gives it the right one */
        memcpy(hold->segment_grant.name, channel->recording.began_as,
               sizeof hold->segment_grant.name);
        channel->recording.begun = false;
        length = UINT64_MAX;
    }
    const struct seal_order order = {
        .began_as = channel->recording.begun ? channel->recording.began_as : "",
        .length = length,
        .copy = failed || channel_durability_was_refused(channel, hold->segment_grant.id)};
    archive_client_seal(archive_of(channel), channel->spec->name, &hold->segment_grant, &order);
    if (!order.copy) /* else there is nothing more to be done for it */
        channel->recording.left[channel->recording.left_next++ % LEFT_SEGMENTS_KEPT] =
            hold->segment_grant;
    fd_close(&hold->segment);
    channel->recording.begun = false;
}

static void release_current(struct channel *channel, uint64_t length)
{
    release_written(channel, length, false);
}

static void release_next(struct channel *channel, uint64_t length)
{
    struct hold *hold = &channel->hold;
    if (hold->next < 0)
        return;
    const struct seal_order order = {
        .began_as = "",
        .length = length,
        .copy = channel_durability_was_refused(channel, hold->next_grant.id)};
    archive_client_seal(archive_of(channel), channel->spec->name, &hold->next_grant, &order);
    fd_close(&hold->next);
}

static void promote_next(struct channel *channel)
{
    struct hold *hold = &channel->hold;
    hold->segment = fd_take(&hold->next);
    hold->segment_grant = hold->next_grant;
    channel->recording.begun = false;
    channel->recording.state = RECORDING_OPEN;
}

void channel_segments_done(struct channel *channel, const struct message_segment_done *done)
{
    struct hold *hold = &channel->hold;
    if (done->begun_first_seq > INT64_MAX) {
        child_violated(channel->lent.worker, "SEGMENT_DONE with an impossible sequence number");
        return;
    }
    if (hold->segment >= 0 && done->begun_id == hold->segment_grant.id) {
        if (!channel->recording.begun)
            begin_current(channel, done);
    } else if (hold->next >= 0 && done->begun_id == hold->next_grant.id) {
        bool finished = hold->segment >= 0 && done->finished_id == hold->segment_grant.id;
        if (hold->segment >= 0)
            release_current(channel, finished ? done->finished_length : UINT64_MAX);
        if (finished)
            channel->recording.refusals = 0;
        promote_next(channel);
        begin_current(channel, done);
    } else {
        log_debug("channel %s: SEGMENT_DONE of a segment that is not held: ignored",
                  channel->spec->name);
    }
    store_follow(&channel->stored);
}

/* A segment that was begun may hold records, whatever its worker says: length 0 would have the
 * archive remove it. Then the file itself is asked. */
static uint64_t believable_length(const struct channel *channel, uint64_t length)
{
    return length == 0 && channel->recording.begun ? UINT64_MAX : length;
}

/* It is sealed, or about to be, and part of it may be nowhere but in memory. Once for each:
 * whatever a worker says, it keeps the archive from nobody else. */
static void copy_left(struct channel *channel, struct segment_grant *left, const char *reason)
{
    if (archive_client_copy(archive_of(channel), channel->spec->name, left))
        log_error("channel %s: %s of %s; its records are copied to another file",
                  channel->spec->name, reason, left->name);
    left->id = 0;
}

static struct segment_grant *find_left(struct channel *channel, uint64_t segment_id)
{
    for (size_t i = 0; i < LEFT_SEGMENTS_KEPT && segment_id != 0; i++)
        if (channel->recording.left[i].id == segment_id)
            return &channel->recording.left[i];
    return NULL;
}

/* Its worker may not have said yet what it noted. */
static bool is_known(void *data, uint64_t segment_id)
{
    struct channel *channel = data;
    const struct hold *hold = &channel->hold;
    return (hold->segment >= 0 && segment_id == hold->segment_grant.id) ||
           (hold->next >= 0 && segment_id == hold->next_grant.id) || find_left(channel, segment_id);
}

void channel_segments_look(struct channel *channel)
{
    struct channel_page *page = channel->hold.page;
    if (!page || !channel_page_any_refused(page))
        return;
    for (size_t i = 0; i < LEFT_SEGMENTS_KEPT; i++)
        if (channel_page_was_refused(page, channel->recording.left[i].id))
            copy_left(channel, &channel->recording.left[i], "the disk has refused a part");
    /* What a supervisor before this one had asked for, recovery has to come to first. */
    if (channel->recording.recovered &&
        !archive_client_is_to_seal(archive_of(channel), channel->spec->name))
        channel_page_settle_refused(page, is_known, channel);
}

/* The more there are in a row, the longer until another segment is asked for. */
static void note_refusal(struct channel_recording *recording)
{
    recording->refusals++;
    if (recording->refusals >= REFUSALS_AT_ONCE && recording->failures < recording->refusals)
        recording->failures = recording->refusals;
}

void channel_segments_failed(struct channel *channel, const struct message_segment_failed *failed)
{
    struct hold *hold = &channel->hold;
    char reason[MESSAGE_REASON_SIZE];
    snprintf(reason, sizeof reason, "writing failed: %.100s (%.40s)", failed->reason,
             strerror(failed->error));

    if (hold->next >= 0 && failed->segment_id == hold->next_grant.id) {
        note_refusal(&channel->recording);
        release_next(channel, failed->committed_length);
        channel->recording.next_retry = true;
        channel_recording_arm_retry(channel);
        log_error("channel %s: the next segment is unusable: %s", channel->spec->name, reason);
        return;
    }
    if (hold->segment < 0 || failed->segment_id != hold->segment_grant.id) {
        struct segment_grant *left = find_left(channel, failed->segment_id);
        if (left)
            copy_left(channel, left, reason);
        return;
    }
    note_refusal(&channel->recording);
    release_written(channel, believable_length(channel, failed->committed_length), true);
    if (hold->next >= 0) { /* the worker has it, and goes on there by itself */
        log_error("channel %s: %s; recording goes on in the next segment", channel->spec->name,
                  reason);
        promote_next(channel);
    } else if (channel->recording
                   .next_requested) { /* the answer that is under way becomes the current one */
        channel->recording.next_requested = false;
        channel->recording.state = RECORDING_OPENING;
        log_error("channel %s: %s; a new segment is on its way", channel->spec->name, reason);
    } else {
        channel_recording_enter_trouble(channel, reason);
    }
    store_follow(&channel->stored);
}

void channel_segments_seal_all(struct channel *channel)
{
    const struct message_bye *bye = &channel->lent.bye;
    bool known = channel->lent.bye_received && channel->life.stop_seals;
    struct hold *hold = &channel->hold;

    timer_disarm(&channel->recording.timer);
    channel->recording.next_retry = false;
    channel_segments_look(channel);
    /* In this order: what the current one has tells whether a next one that was only just begun
     * must be kept for its number. */
    release_current(channel, known && bye->segment_id == hold->segment_grant.id
                                 ? bye->committed_length
                                 : UINT64_MAX);
    release_next(channel, known && bye->segment_id != hold->next_grant.id ? 0 : UINT64_MAX);
    if (channel->recording.state == RECORDING_OPEN || channel->recording.state == RECORDING_TROUBLE)
        channel->recording.state = RECORDING_NONE;
}

/* Up to what the slot says, and no further. */
static void release_as_committed(struct channel *channel, const struct commit_progress *commit)
{
    const struct hold *hold = &channel->hold;
    if (hold->segment >= 0 && commit->segment_id == hold->segment_grant.id) {
        release_current(channel, commit->write_offset);
    } else if (hold->next >= 0 && commit->segment_id == hold->next_grant.id) {
        bool finished = hold->segment >= 0 && commit->finished_id == hold->segment_grant.id;
        release_current(channel, finished ? commit->finished_length : UINT64_MAX);
        release_next(channel, commit->write_offset);
    }
}

/* As a worker that gives one up. A segment is known by its file's number, which a new file may get
 * when this one had no records and is removed: the slot must not seem to mean that. */
void channel_segments_seal_and_forget(struct channel *channel)
{
    struct commit_progress commit;
    const struct hold *hold = &channel->hold;
    bool told = hold->page && hold->old_ring < 0 && channel_page_read_commit(hold->page, &commit) &&
                commit.segment_id;
    /* What lies behind is recorded again, in another one: the ring goes on. */
    if (told && !channel->lent.bye_received)
        release_as_committed(channel, &commit);
    channel_segments_seal_all(channel);
    if (!told)
        return;
    commit.finished_id = commit.segment_id;
    commit.finished_length = commit.write_offset;
    commit.segment_id = commit.block_start = commit.write_offset = commit.block_records = 0;
    channel_page_write_commit(channel->hold.page, &commit);
}

void channel_segments_save_refused(struct channel *channel)
{
    bool is_left = channel->life.state == CHANNEL_BACKOFF || channel->life.state == CHANNEL_FAILED;
    if (is_left && channel_durability_any_refused(channel))
        channel_segments_seal_and_forget(channel);
}

void channel_segments_note_again(const struct channel *channel)
{
    const struct channel_spec *spec = channel->spec;
    char listen[SOCKET_ADDRESS_TEXT_SIZE];
    if (!spec->record.enabled || !channel->ledger.unnoted_end)
        return;
    channel_spec_print_listen(spec, listen, sizeof listen);
    archive_client_note_numbers(archive_of(channel), spec->name, channel->ledger.unnoted_end,
                                listen);
}

/* Who comes after this supervisor must know it, too, until it is done. */
void channel_segments_note_numbers(struct channel *channel)
{
    if (!channel->spec->record.enabled)
        return;
    channel->ledger.unnoted_end = channel->ledger.seq_end;
    channel_history_save(channel);
    channel_segments_note_again(channel);
}

void channel_segments_numbered(struct channel *channel, const struct message_numbered *numbered)
{
    if (numbered->error == 0 && numbered->next_seq >= channel->ledger.unnoted_end) {
        channel->ledger.unnoted_end = 0;
        channel_history_save(channel);
    }
    channel->host->changed(channel->host->data);
}
