/* SPDX-License-Identifier: MIT */
/* A channel's recording as the archive sees it: what is asked of it and what it answers;
 * channel_segments.c is the worker's side. Called by the state machine. It raises no event: whoever
 * calls it looks how it stands afterwards. Independent of the worker's state: trouble with
 * recording never stops the relay. Whatever is outstanding when an archive dies is asked again of
 * the next one. If recovery succeeds only after the relay has begun, the numbers given meanwhile
 * may be in the log already: the channel then restarts with a fresh ring that counts on behind
 * them. Must never lose track of a segment: each is held, or was given to archive_client_seal(). */
/* clang-format off */
/*
 *    archive                 supervisor                  worker
 *       <---- RECOVER           RECOVERING
 *    RECOVERED ---->
 *       <---- OPEN_SEGMENT      OPENING
 *    SEGMENT ---->              OPEN         ---- SEGMENT ---->     writes
 *       <---- BEGIN_SEGMENT                  <---- SEGMENT_DONE     first record
 *       <---- SEAL                           <---- SEGMENT_DONE     of the next one
 *    SEALED ---->
 */
/* clang-format on */
#include "supervisor/channel/channel_recording.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/channel_page.h"
#include "common/channel_page_refused.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/child/child.h"
#include "supervisor/hold/store.h"
#include "supervisor/system/timer.h"

#define PATIENCE_NS       (5 * NS_PER_S)
#define PATIENCE_ALONE_NS (60 * NS_PER_S) /* of what nobody waits for */
#define RETRY_FIRST_NS    (100 * NS_PER_MS)
#define RETRY_MAX_NS      (5 * NS_PER_S)

bool channel_recording_settled(const struct channel *channel)
{
    return channel->recording.state == RECORDING_NONE ||
           channel->recording.state == RECORDING_OPEN ||
           channel->recording.state == RECORDING_TROUBLE;
}

uint64_t channel_recording_patience(const struct channel *channel)
{
    bool alone = channel->former.removed && channel->host->phase == PHASE_RUNS;
    return alone ? PATIENCE_ALONE_NS : PATIENCE_NS;
}

void channel_recording_wait_no_longer(struct channel *channel)
{
    log_warning("channel %s: no log within %llu s%s%s; relaying without it, recording begins when "
                "the archive answers",
                channel->spec->name,
                (unsigned long long)(channel_recording_patience(channel) / NS_PER_S),
                channel->recording.trouble[0] ? ": " : "", channel->recording.trouble);
    channel->recording.waited = true;
}

bool channel_recording_can_wait_on(struct channel *channel)
{
    struct channel_recording *recording = &channel->recording;
    if (!channel_spec_is_local(channel->spec) || !channel->spec->record.enabled ||
        recording->placed)
        return false;
    if (!recording->publishers_told)
        log_warning("channel %s: no log within %llu s%s%s; its publishers wait until the archive "
                    "answers",
                    channel->spec->name,
                    (unsigned long long)(channel_recording_patience(channel) / NS_PER_S),
                    recording->trouble[0] ? ": " : "", recording->trouble);
    recording->publishers_told = true;
    return true;
}

const char *channel_recording_how_opened(const struct channel *channel)
{
    return channel->recording.state == RECORDING_TROUBLE ? "opened without its log" : "opened";
}

bool channel_recording_is_being_recovered(const struct channel *channel)
{
    return channel->recording.state == RECORDING_RECOVERING || channel->recording.cleaning;
}

bool channel_recording_quiet(const struct channel *channel)
{
    return !channel_recording_is_being_recovered(channel) &&
           channel->recording.state != RECORDING_OPENING && !channel->recording.next_requested;
}

static struct archive_client *archive_of(const struct channel *channel)
{
    return channel->host->archive;
}

static void changed(const struct channel *channel)
{
    channel->host->changed(channel->host->data);
}

/* A worker that stops for good may still need a segment for what is left in the ring. */
static bool has_listener(const struct channel *channel)
{
    /* The log has given the numbers of this one's ring to others. */
    return channel->lent.worker && !channel->recording.renumber &&
           (channel->life.state == CHANNEL_STARTING || channel->life.state == CHANNEL_RUNNING ||
            (channel->life.state == CHANNEL_STOPPING && channel->life.stop_seals &&
             !channel->lent.bye_received));
}

static bool has_ended(const struct channel *channel)
{
    return channel->life.state == CHANNEL_STOPPED || channel->life.state == CHANNEL_DOWN;
}

int channel_recording_ask_for_segment(const struct channel *channel)
{
    return archive_client_open_segment(archive_of(channel), channel->spec->name,
                                       channel->spec->record.segment_size);
}

static int ask_to_recover(const struct channel *channel)
{
    const struct hold *hold = &channel->hold;
    const struct segment_grant *const keep[] = {hold->segment >= 0 ? &hold->segment_grant : NULL,
                                                hold->next >= 0 ? &hold->next_grant : NULL};
    uint32_t flags = channel->recording.unfinished > 0 ? RECOVER_AGAIN : 0;
    if (!channel->recording.placed)
        flags |= RECOVER_ANEW;
    return archive_client_recover(archive_of(channel), channel->spec->name, keep, flags);
}

/* Where the current segment was begun: its name becomes the right one. */
void channel_recording_ask_to_begin(const struct channel *channel)
{
    archive_client_begin(archive_of(channel), channel->spec->name, channel->recording.began_as,
                         channel->hold.segment_grant.name);
}

static void ask_to_seal(const struct channel *channel, const struct segment_grant *grant,
                        uint64_t length)
{
    const struct seal_order order = {.began_as = "", .length = length};
    archive_client_seal(archive_of(channel), channel->spec->name, grant, &order);
}

bool channel_recording_restarts_worker(const struct channel *channel)
{
    return channel->recording.renumber && channel->recording.state == RECORDING_OPEN &&
           channel->lent.worker &&
           (channel->life.state == CHANNEL_STARTING || channel->life.state == CHANNEL_RUNNING);
}

static void give_to_worker(struct channel *channel, const struct segment_grant *grant, int fd)
{
    struct message_segment segment = {.grant = *grant};
    snprintf(segment.channel, sizeof segment.channel, "%s", channel->spec->name);
    int error = child_send(channel->lent.worker, MESSAGE_SEGMENT, &segment, sizeof segment, &fd, 1);
    if (error < 0 && error != -EPIPE) /* its successor gets it with ASSIGN */
        log_warning("channel %s: can't send a segment to %s: %s", channel->spec->name,
                    child_describe(channel->lent.worker), strerror(-error));
}

/* ---- trouble and retrying ---- */

uint64_t channel_recording_arm_retry(struct channel *channel)
{
    struct channel_recording *recording = &channel->recording;
    uint64_t delay = RETRY_FIRST_NS;
    for (uint32_t i = 0; i < recording->failures && delay < RETRY_MAX_NS; i++)
        delay *= 2;
    if (delay > RETRY_MAX_NS)
        delay = RETRY_MAX_NS;
    recording->failures++;
    if (timer_arm(&recording->timer, channel->host->event, delay, recording->on_retry, channel) < 0)
        log_error("channel %s: no memory for a timer", channel->spec->name);
    return delay;
}

/* Say it when it begins, when the reason changes, and ever more rarely while it lasts. */
static void tell_trouble(struct channel *channel, const char *reason, uint64_t delay)
{
    uint32_t failures = channel->recording.failures;
    if (strcmp(channel->recording.trouble, reason) == 0 && (failures & (failures - 1)) != 0)
        return;
    log_error("channel %s: not recording: %s; relaying goes on, next attempt in %.1f s",
              channel->spec->name, reason, (double)delay / 1e9);
}

void channel_recording_enter_trouble(struct channel *channel, const char *reason)
{
    channel->recording.state = RECORDING_TROUBLE;
    channel->recording.next_retry = false; /* the timer is for the current one from here on */
    tell_trouble(channel, reason, channel_recording_arm_retry(channel));
    snprintf(channel->recording.trouble, sizeof channel->recording.trouble, "%s", reason);
}

/* Unless one is under way: asked again of another archive, it is the same. */
static void note_recovery_begins(struct channel *channel)
{
    if (!channel_recording_is_being_recovered(channel))
        channel->recording.recovery_began = monotonic_now();
}

/* Ask for what is missing most: recovery first, then a segment. */
void channel_recording_request(struct channel *channel)
{
    if (!channel->recording.recovered)
        note_recovery_begins(channel);
    channel->recording.state =
        channel->recording.recovered ? RECORDING_OPENING : RECORDING_RECOVERING;
    int error = channel->recording.recovered ? channel_recording_ask_for_segment(channel)
                                             : ask_to_recover(channel);
    if (error < 0 && error != -ENOTCONN && error != -EPIPE)
        channel_recording_enter_trouble(
            channel, "the archive can't be asked just now (it has just died, or too many "
                     "requests wait for it)");
}

/* Restored with its segments: whatever other open files there are, nobody will ever continue.
 * RECOVER goes by names, so the ones in use must not be renamed before it was answered. */
static void clean(struct channel *channel)
{
    note_recovery_begins(channel);
    channel->recording.cleaning = true;
    ask_to_recover(channel); /* without an archive: channel_recording_archive_back() */
}

void channel_recording_clean_again(struct channel *channel)
{
    struct channel_recording *recording = &channel->recording;
    /* One that is just being handed out is not among those that are told to be in use. */
    if (recording->state != RECORDING_OPEN || channel->hold.segment < 0 || recording->cleaning ||
        recording->next_requested)
        return;
    /* What is in the way of a single file may be there for good: ever more rarely. */
    uint32_t turn = recording->unfinished > 0 ? ++recording->cleanings : 0;
    bool left = turn > 0 && (turn & (turn - 1)) == 0;
    if (!recording->recovered || left)
        clean(channel);
}

bool channel_recording_clean_last(struct channel *channel)
{
    struct channel_recording *recording = &channel->recording;
    if (!recording->unfinished || recording->cleaned_last || recording->cleaning ||
        recording->next_requested)
        return false;
    recording->cleaned_last = true;
    clean(channel);
    return true;
}

bool channel_recording_left_unfinished(const struct channel *channel)
{
    return channel->recording.unfinished > 0;
}

void channel_recording_begin(struct channel *channel)
{
    if (!channel->spec->record.enabled) {
        channel->recording.state = RECORDING_NONE;
    } else if (channel->hold.segment >= 0) {
        channel->recording.state = RECORDING_OPEN;
        channel->recording.placed = true; /* none is had before the log is known */
        if (!channel->recording.recovered && !channel->recording.cleaning)
            clean(channel);
    } else if (channel->recording.state == RECORDING_NONE ||
               channel->recording.state == RECORDING_OPEN) {
        channel_recording_request(channel);
    }
}

void channel_recording_archive_back(struct channel *channel)
{
    if (channel->recording.cleaning)
        clean(channel);
    else if (channel->recording.begun && channel->hold.segment >= 0)
        channel_recording_ask_to_begin(channel);
    if (channel->recording.state == RECORDING_RECOVERING ||
        channel->recording.state == RECORDING_OPENING)
        channel_recording_request(channel);
    else if (channel->recording.next_requested)
        channel_recording_ask_for_segment(channel);
}

/* ---- answers of the archive ---- */

/* Whether there was anything in what could not be recovered, nobody knows. */
static void note_unfinished(struct channel_recording *recording,
                            const struct message_recovered *recovered)
{
    recording->unfinished = recovered->error ? 1 : recovered->left;
    if (!recording->unfinished)
        recording->cleanings = 0;
}

static bool is_anew(const struct message_recovered *recovered)
{
    return (recovered->flags & RECOVER_ANEW) != 0;
}

static void handle_cleaned(struct channel *channel, const struct message_recovered *recovered)
{
    struct channel_recording *recording = &channel->recording;
    recording->cleaning = false;
    /* Also where a ring without records was restored. To what was asked before the ring was given
     * up, it says nothing of the next one. */
    recording->placed |= recovered->error == 0 && is_anew(recovered);
    recording->recovered |= recovered->error == 0 && recording->placed;
    note_unfinished(recording, recovered);
    if (recovered->error && recording->cleaned_last)
        log_error("channel %s: what it left unfinished can't be recovered: %s; the next start "
                  "tries it",
                  channel->spec->name, recovered->reason);
    else if (recovered->error)
        log_warning("channel %s: what it left unfinished beside the segment in use can't be "
                    "recovered: %s; tried again every minute",
                    channel->spec->name, recovered->reason);
    if (recording->begun && channel->hold.segment >= 0)
        channel_recording_ask_to_begin(channel);
    changed(channel);
}

/* Must be said before there is a segment: whoever restores the two goes by it. */
static void place_ring(struct channel *channel, uint64_t next_seq)
{
    struct channel_recording *recording = &channel->recording;
    recording->renumber = !recording->restored && channel->ledger.ring_start_seq < next_seq;
    if (channel->hold.page)
        atomic_store(&channel->hold.page->private.unplaced, recording->renumber);
}

static void handle_recovered(struct channel *channel, const struct message_recovered *recovered)
{
    if (channel->recording.cleaning)
        handle_cleaned(channel, recovered);
    if (channel->recording.state != RECORDING_RECOVERING)
        return; /* that was all, or it was asked twice and answered twice */
    if (recovered->error == 0 && !channel->recording.placed && !is_anew(recovered))
        return;               /* to what was asked before the ring was given up */
    if (has_ended(channel)) { /* stopped meanwhile: the next start asks anew */
        channel->recording.state = RECORDING_NONE;
        changed(channel);
        return;
    }
    if (recovered->error) {
        channel_recording_enter_trouble(channel, recovered->reason);
        return;
    }
    if (recovered->next_seq > AVRO_LOG_SEQ_MAX / 2) { /* there must be room for more */
        channel_recording_enter_trouble(
            channel, "a file in the channel's folder bears or holds a number that no log "
                     "reaches: find it with holdfastctl verify and move it away");
        return;
    }
    channel->recording.recovered = channel->recording.placed = true;
    channel->recording.next_seq = recovered->next_seq;
    note_unfinished(&channel->recording, recovered);
    if (recovered->files)
        log_notice("channel %s: %u unfinished segments were recovered; the log goes on at %llu",
                   channel->spec->name, recovered->files, (unsigned long long)recovered->next_seq);
    if (channel->hold.ring < 0)
        channel->ledger.seq_end = recovered->next_seq > channel->ledger.seq_end
                                      ? recovered->next_seq
                                      : channel->ledger.seq_end;
    else
        place_ring(channel, recovered->next_seq);
    channel_recording_request(channel);
}

static void drop_segment(struct channel *channel, struct message *message)
{
    int fd = fd_take(&message->fds[0]);
    ask_to_seal(channel, &message->segment->grant, 0);
    fd_close(&fd);
}

/* What could not be sealed may be possible now, too. */
static void take_up_again(const struct channel *channel)
{
    log_notice("channel %s: recording is possible again", channel->spec->name);
    archive_client_seal_failed_again(archive_of(channel));
}

/* A file that is gone may have had the same inode number. */
static void note_new_file(struct channel *channel, uint64_t id)
{
    for (size_t i = 0; i < LEFT_SEGMENTS_KEPT; i++)
        if (channel->recording.left[i].id == id)
            channel->recording.left[i].id = 0;
    if (channel->hold.page)
        channel_page_forget_refused(channel->hold.page, id);
}

static void take_as_current(struct channel *channel, struct message *message)
{
    struct hold *hold = &channel->hold;
    hold->segment = fd_take(&message->fds[0]);
    hold->segment_grant = message->segment->grant;
    note_new_file(channel, hold->segment_grant.id);
    channel->recording.begun = false;
    channel->recording.state = RECORDING_OPEN;
    if (channel->recording.failures > 0)
        take_up_again(channel);
    channel->recording.failures = 0;
    channel->recording.trouble[0] = '\0';
    if (has_listener(channel))
        give_to_worker(channel, &hold->segment_grant, hold->segment);
}

static void take_as_next(struct channel *channel, struct message *message)
{
    struct hold *hold = &channel->hold;
    channel->recording.next_requested = false;
    hold->next = fd_take(&message->fds[0]);
    hold->next_grant = message->segment->grant;
    note_new_file(channel, hold->next_grant.id);
    /* The archive tells by the files which recording it is part of, and may have found none yet. */
    if (hold->segment >= 0 && avro_log_id_is_known(hold->segment_grant.log_id))
        memcpy(hold->next_grant.log_id, hold->segment_grant.log_id, sizeof hold->next_grant.log_id);
    channel->recording.failures = 0;
    channel->recording.trouble[0] = '\0';
    if (has_listener(channel))
        give_to_worker(channel, &hold->next_grant, hold->next);
}

static void handle_no_segment(struct channel *channel, const struct message_segment *segment)
{
    if (segment->error == ENOSPC)
        archive_client_expire(
            archive_of(channel), channel->spec->name,
            &channel->spec->record); /* retention may make room before the next attempt */
    if (channel->recording.state == RECORDING_OPENING) {
        channel_recording_enter_trouble(channel, segment->reason);
    } else if (channel->recording.next_requested) {
        channel->recording.next_requested = false;
        channel->recording.next_retry = true;
        uint64_t delay = channel_recording_arm_retry(channel);
        if (strcmp(channel->recording.trouble, segment->reason) != 0)
            log_error("channel %s: the next segment can't be prepared: %s; when the current one is "
                      "full, datagrams are "
                      "relayed but not recorded (record_lost); next attempt in %.1f s",
                      channel->spec->name, segment->reason, (double)delay / 1e9);
        snprintf(channel->recording.trouble, sizeof channel->recording.trouble, "%s",
                 segment->reason);
    }
}

static void handle_segment(struct channel *channel, struct message *message)
{
    bool ended = has_ended(channel);
    if (message->segment->error && !ended) {
        handle_no_segment(channel, message->segment);
    } else if (channel->recording.state == RECORDING_OPENING && !ended) {
        take_as_current(channel, message);
    } else if (channel->recording.next_requested && channel->hold.next < 0 && !ended) {
        take_as_next(channel, message);
    } else if (!message->segment->error) {
        drop_segment(channel, message); /* asked twice, or nobody wants it any more */
    }
    if (ended) {
        channel->recording.next_requested = false;
        if (channel->recording.state == RECORDING_OPENING)
            channel->recording.state = RECORDING_NONE;
        changed(channel);
    }
}

void channel_recording_answer(struct channel *channel, struct message *message)
{
    if (message->header.type == MESSAGE_RECOVERED)
        handle_recovered(channel, message->recovered);
    else if (message->header.type == MESSAGE_SEGMENT)
        handle_segment(channel, message);
}
