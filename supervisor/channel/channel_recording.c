/* SPDX-License-Identifier: MIT */
/* A channel's recording, between the worker that writes segments and the archive that makes and
 * seals them. Called by the state machine with what either of them says and when an attempt is due,
 * by an operator's rotate, and where a ring is given up. It raises no event: whoever calls it looks
 * how it stands afterwards. Independent of the worker's state: trouble with recording never stops
 * the relay. Whatever is outstanding when an archive dies is asked again of the next one. If
 * recovery succeeds only after the relay has begun, the numbers given meanwhile may be in the log
 * already: the channel then restarts with a fresh ring that counts on behind them. Must never lose
 * track of a segment: each is held, or was given to archive_client_seal(). */
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
#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/channel_page.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/child/child.h"
#include "supervisor/hold/store.h"
#include "supervisor/system/timer.h"

#define RETRY_FIRST_NS (100 * NS_PER_MS)
#define RETRY_MAX_NS   (5 * NS_PER_S)

static void request(struct channel *channel);

bool channel_recording_settled(const struct channel *channel)
{
    return channel->recording.state == RECORDING_NONE ||
           channel->recording.state == RECORDING_OPEN ||
           channel->recording.state == RECORDING_TROUBLE;
}

const char *channel_recording_how_opened(const struct channel *channel)
{
    return channel->recording.state == RECORDING_TROUBLE ? "opened without its log" : "opened";
}

bool channel_recording_quiet(const struct channel *channel)
{
    return channel->recording.state != RECORDING_RECOVERING &&
           channel->recording.state != RECORDING_OPENING && !channel->recording.next_requested &&
           !channel->recording.cleaning;
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
    return channel->lent.worker &&
           (channel->life.state == CHANNEL_STARTING || channel->life.state == CHANNEL_RUNNING ||
            (channel->life.state == CHANNEL_STOPPING && channel->life.stop_seals &&
             !channel->lent.bye_received));
}

static bool has_ended(const struct channel *channel)
{
    return channel->life.state == CHANNEL_STOPPED || channel->life.state == CHANNEL_DOWN;
}

static int ask_for_segment(const struct channel *channel)
{
    return archive_client_open_segment(archive_of(channel), channel->spec->name,
                                       channel->spec->record.segment_size);
}

static int ask_to_recover(const struct channel *channel)
{
    const struct hold *hold = &channel->hold;
    return archive_client_recover(archive_of(channel), channel->spec->name,
                                  hold->segment >= 0 ? &hold->segment_grant : NULL,
                                  hold->next >= 0 ? &hold->next_grant : NULL);
}

/* Where the current segment was begun: its name becomes the right one. */
static void ask_to_begin(const struct channel *channel)
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

void channel_recording_retry(struct channel *channel)
{
    if (channel->recording.state == RECORDING_TROUBLE) {
        request(channel);
    } else if (channel->recording.next_retry) {
        channel->recording.next_retry = false;
        channel_recording_wanted(channel);
    }
}

static uint64_t arm_retry(struct channel *channel)
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

static void enter_trouble(struct channel *channel, const char *reason)
{
    channel->recording.state = RECORDING_TROUBLE;
    channel->recording.next_retry = false; /* the timer is for the current one from here on */
    tell_trouble(channel, reason, arm_retry(channel));
    snprintf(channel->recording.trouble, sizeof channel->recording.trouble, "%s", reason);
}

/* Ask for what is missing most: recovery first, then a segment. */
static void request(struct channel *channel)
{
    channel->recording.state =
        channel->recording.recovered ? RECORDING_OPENING : RECORDING_RECOVERING;
    int error = channel->recording.recovered ? ask_for_segment(channel) : ask_to_recover(channel);
    if (error < 0 && error != -ENOTCONN && error != -EPIPE)
        enter_trouble(channel, "the archive can't be asked just now (it has just died, or too many "
                               "requests wait for it)");
}

/* Restored with its segments: whatever other open files there are, nobody will ever continue.
 * RECOVER goes by names, so the ones in use must not be renamed before it was answered. */
static void clean(struct channel *channel)
{
    channel->recording.cleaning = true;
    ask_to_recover(channel); /* without an archive: channel_recording_archive_back() */
}

void channel_recording_clean_again(struct channel *channel)
{
    if (channel->recording.state == RECORDING_OPEN && channel->hold.segment >= 0 &&
        !channel->recording.recovered && !channel->recording.cleaning)
        clean(channel);
}

void channel_recording_begin(struct channel *channel)
{
    if (!channel->spec->record.enabled) {
        channel->recording.state = RECORDING_NONE;
    } else if (channel->hold.segment >= 0) {
        channel->recording.state = RECORDING_OPEN;
        channel_recording_clean_again(channel);
    } else if (channel->recording.state == RECORDING_NONE ||
               channel->recording.state == RECORDING_OPEN) {
        request(channel);
    }
}

void channel_recording_archive_back(struct channel *channel)
{
    if (channel->recording.cleaning)
        clean(channel);
    else if (channel->recording.begun && channel->hold.segment >= 0)
        ask_to_begin(channel);
    if (channel->recording.state == RECORDING_RECOVERING ||
        channel->recording.state == RECORDING_OPENING)
        request(channel);
    else if (channel->recording.next_requested)
        ask_for_segment(channel);
}

/* ---- answers of the archive ---- */

static void handle_recovered(struct channel *channel, const struct message_recovered *recovered)
{
    if (channel->recording.cleaning) {
        channel->recording.cleaning = false;
        channel->recording.recovered = recovered->error == 0;
        if (recovered->error)
            log_warning("channel %s: what it left unfinished beside the segment in use can't be "
                        "recovered: %s; tried again every minute",
                        channel->spec->name, recovered->reason);
        if (channel->recording.begun && channel->hold.segment >= 0)
            ask_to_begin(channel);
    }
    if (channel->recording.state != RECORDING_RECOVERING)
        return;               /* that was all, or it was asked twice and answered twice */
    if (has_ended(channel)) { /* stopped meanwhile: the next start asks anew */
        channel->recording.state = RECORDING_NONE;
        changed(channel);
        return;
    }
    if (recovered->error) {
        enter_trouble(channel, recovered->reason);
        return;
    }
    if (recovered->next_seq > AVRO_LOG_SEQ_MAX / 2) { /* there must be room for more */
        enter_trouble(channel, "a file in the channel's folder bears or holds a number that no log "
                               "reaches: find it with holdfastctl verify and move it away");
        return;
    }
    channel->recording.recovered = true;
    channel->recording.next_seq = recovered->next_seq;
    if (recovered->files)
        log_notice("channel %s: %u unfinished segments were recovered; the log goes on at %llu",
                   channel->spec->name, recovered->files, (unsigned long long)recovered->next_seq);
    if (channel->hold.ring < 0)
        channel->ledger.seq_end = recovered->next_seq > channel->ledger.seq_end
                                      ? recovered->next_seq
                                      : channel->ledger.seq_end;
    else
        channel->recording.renumber =
            !channel->recording.restored && channel->ledger.ring_start_seq < recovered->next_seq;
    request(channel);
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

static void take_as_current(struct channel *channel, struct message *message)
{
    struct hold *hold = &channel->hold;
    hold->segment = fd_take(&message->fds[0]);
    hold->segment_grant = message->segment->grant;
    channel->recording.begun = false;
    channel->recording.state = RECORDING_OPEN;
    if (channel->recording.failures > 0)
        take_up_again(channel);
    channel->recording.failures = 0;
    channel->recording.trouble[0] = '\0';
    if (has_listener(channel) && !channel_recording_restarts_worker(channel))
        give_to_worker(channel, &hold->segment_grant, hold->segment);
}

static void take_as_next(struct channel *channel, struct message *message)
{
    struct hold *hold = &channel->hold;
    channel->recording.next_requested = false;
    hold->next = fd_take(&message->fds[0]);
    hold->next_grant = message->segment->grant;
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
        enter_trouble(channel, segment->reason);
    } else if (channel->recording.next_requested) {
        channel->recording.next_requested = false;
        channel->recording.next_retry = true;
        uint64_t delay = arm_retry(channel);
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

/* ---- what the worker says ---- */

void channel_recording_wanted(struct channel *channel)
{
    if (channel->recording.state != RECORDING_OPEN || channel->hold.next >= 0 ||
        channel->recording.next_requested || channel->recording.next_retry)
        return;
    int error = ask_for_segment(channel);
    /* Without an archive it stays asked for: channel_recording_archive_back(). The worker asks
     * again every 2 s. */
    channel->recording.next_requested = error == 0 || error == -ENOTCONN || error == -EPIPE;
}

/* As the worker has it: what it says about its segments may still be under way. When the page can't
 * be read, the worker shall decide. */
bool channel_recording_is_empty(const struct channel *channel)
{
    const struct channel_page *page = channel->hold.page;
    struct commit_progress commit;
    if (!page || !channel_page_read_commit(page, &commit))
        return false;
    bool has_records = commit.segment_id != 0 && commit.next_seq != commit.segment_first_seq;
    return !has_records &&
           atomic_load_explicit(&page->public.published, memory_order_acquire) == commit.next_seq;
}

int channel_recording_rotate(struct channel *channel, const char **ret_why)
{
    struct message_empty empty = {0};
    int error = child_send(channel->lent.worker, MESSAGE_ROTATE, &empty, sizeof empty, NULL, 0);
    if (error < 0) {
        *ret_why = "its worker can't be reached just now: try again";
        return error;
    }
    channel_recording_wanted(channel);
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
        ask_to_begin(channel);
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
        .copy = failed};
    archive_client_seal(archive_of(channel), channel->spec->name, &hold->segment_grant, &order);
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
    ask_to_seal(channel, &hold->next_grant, length);
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

void channel_recording_segment_done(struct channel *channel,
                                    const struct message_segment_done *done)
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
        if (hold->segment >= 0)
            release_current(channel, done->finished_id == hold->segment_grant.id
                                         ? done->finished_length
                                         : UINT64_MAX);
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

/* It is sealed, or about to be, and part of it may be nowhere but in memory. */
static void copy_left(const struct channel *channel, const struct message_segment_failed *failed,
                      const char *reason)
{
    for (size_t i = 0; i < LEFT_SEGMENTS_KEPT; i++) {
        const struct segment_grant *left = &channel->recording.left[i];
        if (left->id == 0 || left->id != failed->segment_id)
            continue;
        if (archive_client_copy(archive_of(channel), channel->spec->name, left,
                                failed->committed_length))
            log_error("channel %s: %s of %s; its records are copied to another file",
                      channel->spec->name, reason, left->name);
        return;
    }
}

void channel_recording_failed(struct channel *channel, const struct message_segment_failed *failed)
{
    struct hold *hold = &channel->hold;
    char reason[MESSAGE_REASON_SIZE];
    snprintf(reason, sizeof reason, "writing failed: %.100s (%.40s)", failed->reason,
             strerror(failed->error));

    if (hold->next >= 0 && failed->segment_id == hold->next_grant.id) {
        release_next(channel, failed->committed_length);
        channel->recording.next_retry = true;
        arm_retry(channel);
        log_error("channel %s: the next segment is unusable: %s", channel->spec->name, reason);
        return;
    }
    if (hold->segment < 0 || failed->segment_id != hold->segment_grant.id) {
        copy_left(channel, failed, reason);
        return;
    }
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
        enter_trouble(channel, reason);
    }
    store_follow(&channel->stored);
}

void channel_recording_seal_all(struct channel *channel)
{
    const struct message_bye *bye = &channel->lent.bye;
    bool known = channel->lent.bye_received && channel->life.stop_seals;
    struct hold *hold = &channel->hold;

    timer_disarm(&channel->recording.timer);
    channel->recording.next_retry = false;
    release_next(channel, known && bye->segment_id != hold->next_grant.id ? 0 : UINT64_MAX);
    release_current(channel, known && bye->segment_id == hold->segment_grant.id
                                 ? bye->committed_length
                                 : UINT64_MAX);
    if (channel->recording.state == RECORDING_OPEN || channel->recording.state == RECORDING_TROUBLE)
        channel->recording.state = RECORDING_NONE;
}
