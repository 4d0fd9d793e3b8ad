/* SPDX-License-Identifier: MIT */
/* A channel's recording, between the worker that writes segments and the archive that makes and
 * seals them:
 *
 *   RECOVER -> RECOVERED -> OPEN_SEGMENT -> SEGMENT -> [worker writes] -> SEGMENT_DONE ->
 * BEGIN_SEGMENT ... SEAL
 *
 * Independent of the worker's state: trouble with the log never stops the relay. Whatever is
 * outstanding when an archive dies is asked again of the next one. If recovery succeeds only after
 * the relay has begun, the numbers given meanwhile may be in the log already: the channel then
 * restarts with a fresh ring that counts on behind them. Must never lose track of a segment: each
 * is held, or was given to archive_client_seal(). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/avro_log_format.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel.h"
#include "supervisor/channel/channel_restore.h"
#include "supervisor/supervisor.h"

#define RETRY_FIRST_NS (100 * NS_PER_MS)
#define RETRY_MAX_NS   (5 * NS_PER_S)

static void request(struct channel *channel);

bool channel_log_settled(const struct channel *channel)
{
    return channel->log_state == LOG_NONE || channel->log_state == LOG_OPEN ||
           channel->log_state == LOG_TROUBLE;
}

bool channel_log_quiet(const struct channel *channel)
{
    return channel->log_state != LOG_RECOVERING && channel->log_state != LOG_OPENING &&
           !channel->next_requested && !channel->cleaning;
}

/* A worker that stops for good may still need a segment for what is left in the ring. */
static bool has_listener(const struct channel *channel)
{
    return channel->worker &&
           (channel->state == CHANNEL_STARTING || channel->state == CHANNEL_RUNNING ||
            (channel->state == CHANNEL_STOPPING && channel->stop_seals && !channel->bye_said));
}

static bool has_ended(const struct channel *channel)
{
    return channel->state == CHANNEL_STOPPED || channel->state == CHANNEL_DOWN;
}

static void give_to_worker(struct channel *channel, const struct segment_grant *grant, int fd)
{
    struct message_segment segment = {.grant = *grant};
    snprintf(segment.channel, sizeof segment.channel, "%s", channel->spec->name);
    int error = child_send(channel->worker, MESSAGE_SEGMENT, &segment, sizeof segment, &fd, 1);
    if (error < 0 && error != -EPIPE) /* its successor gets it with ASSIGN */
        log_warning("channel %s: can't send a segment to %s: %s", channel->spec->name,
                    child_describe(channel->worker), strerror(-error));
}

/* ---- trouble and retrying ---- */

static int on_retry(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct channel *channel = userdata;
    (void)source;
    (void)time_us;
    if (channel->log_state == LOG_TROUBLE) {
        request(channel);
    } else if (channel->next_retry) {
        channel->next_retry = false;
        channel_log_wanted(channel);
    }
    return 0;
}

static uint64_t arm_retry(struct channel *channel)
{
    uint64_t delay = RETRY_FIRST_NS;
    for (uint32_t i = 0; i < channel->log_failures && delay < RETRY_MAX_NS; i++)
        delay *= 2;
    if (delay > RETRY_MAX_NS)
        delay = RETRY_MAX_NS;
    channel->log_failures++;
    if (supervisor_arm(channel->supervisor, &channel->log_timer, delay, on_retry, channel) < 0)
        log_error("channel %s: no memory for a timer", channel->spec->name);
    return delay;
}

/* Say it when it begins, when the reason changes, and ever more rarely while it lasts. */
static void tell_trouble(struct channel *channel, const char *reason, uint64_t delay)
{
    uint32_t failures = channel->log_failures;
    if (strcmp(channel->log_trouble, reason) == 0 && (failures & (failures - 1)) != 0)
        return;
    log_error("channel %s: not recording: %s; relaying goes on, next attempt in %.1f s",
              channel->spec->name, reason, (double)delay / 1e9);
}

static void enter_trouble(struct channel *channel, const char *reason)
{
    channel->log_state = LOG_TROUBLE;
    tell_trouble(channel, reason, arm_retry(channel));
    snprintf(channel->log_trouble, sizeof channel->log_trouble, "%s", reason);
    if (channel->state == CHANNEL_OPENING)
        channel_handle(channel, CHANNEL_EVENT_OPENED, "opened without its log");
}

/* Ask for what is missing most: recovery first, then a segment. */
static void request(struct channel *channel)
{
    channel->log_state = channel->log_recovered ? LOG_OPENING : LOG_RECOVERING;
    int error = channel->log_recovered ? archive_client_open_segment(channel)
                                       : archive_client_recover(channel);
    if (error < 0 && error != -ENOTCONN && error != -EPIPE)
        enter_trouble(channel, "the archive can't be asked (too many requests wait for it)");
}

/* Restored with its segments: whatever other open files there are, nobody will ever continue.
 * RECOVER goes by names, so the ones in use must not be renamed before it was answered. */
static void clean(struct channel *channel)
{
    channel->cleaning = true;
    archive_client_recover(channel); /* without an archive: channel_log_archive_back() */
}

void channel_log_begin(struct channel *channel)
{
    if (!channel->spec->record.enabled) {
        channel->log_state = LOG_NONE;
    } else if (channel->hold.log >= 0) {
        channel->log_state = LOG_OPEN;
        if (!channel->log_recovered && !channel->cleaning)
            clean(channel);
    } else if (channel->log_state == LOG_NONE || channel->log_state == LOG_OPEN) {
        request(channel);
    }
}

void channel_log_archive_back(struct channel *channel)
{
    if (channel->cleaning)
        clean(channel);
    else if (channel->log_begun && channel->hold.log >= 0)
        archive_client_begin(channel, channel->log_began_as, channel->hold.log_grant.name);
    if (channel->log_state == LOG_RECOVERING || channel->log_state == LOG_OPENING)
        request(channel);
    else if (channel->next_requested)
        archive_client_open_segment(channel);
}

/* ---- answers of the archive ---- */

static void handle_recovered(struct channel *channel, const struct message_recovered *recovered)
{
    if (channel->cleaning) {
        channel->cleaning = false;
        channel->log_recovered = recovered->error == 0;
        if (channel->log_begun && channel->hold.log >= 0)
            archive_client_begin(channel, channel->log_began_as, channel->hold.log_grant.name);
    }
    if (channel->log_state != LOG_RECOVERING)
        return;               /* that was all, or it was asked twice and answered twice */
    if (has_ended(channel)) { /* stopped meanwhile: the next start asks anew */
        channel->log_state = LOG_NONE;
        supervisor_changed(channel->supervisor);
        return;
    }
    if (recovered->error) {
        enter_trouble(channel, recovered->reason);
        return;
    }
    if (recovered->next_seq > INT64_MAX) {
        enter_trouble(channel, "the archive answered with an impossible sequence number");
        return;
    }
    channel->log_recovered = true;
    channel->log_next_seq = recovered->next_seq;
    if (recovered->files)
        log_notice("channel %s: %u unfinished segments were recovered; the log goes on at %llu",
                   channel->spec->name, recovered->files, (unsigned long long)recovered->next_seq);
    if (channel->hold.ring < 0)
        channel->seq_end =
            recovered->next_seq > channel->seq_end ? recovered->next_seq : channel->seq_end;
    else
        channel->renumber = !channel->restored && channel->ring_start_seq < recovered->next_seq;
    request(channel);
}

static void drop_segment(struct channel *channel, struct message *message)
{
    int fd = fd_take(&message->fds[0]);
    archive_client_seal(channel, &message->segment->grant, "", 0);
    fd_close(&fd);
}

static void take_as_log(struct channel *channel, struct message *message)
{
    struct hold *hold = &channel->hold;
    hold->log = fd_take(&message->fds[0]);
    hold->log_grant = message->segment->grant;
    channel->log_begun = false;
    channel->log_state = LOG_OPEN;
    if (channel->log_failures > 0)
        log_notice("channel %s: recording is possible again", channel->spec->name);
    channel->log_failures = 0;
    channel->log_trouble[0] = '\0';
    if (channel->state == CHANNEL_OPENING)
        channel_handle(channel, CHANNEL_EVENT_OPENED, "opened");
    else if (channel->renumber && has_listener(channel) && channel->state != CHANNEL_STOPPING)
        channel_handle(channel, CHANNEL_EVENT_RESTART, "the log goes on at a later number");
    else if (has_listener(channel))
        give_to_worker(channel, &hold->log_grant, hold->log);
}

static void take_as_next(struct channel *channel, struct message *message)
{
    struct hold *hold = &channel->hold;
    channel->next_requested = false;
    hold->next = fd_take(&message->fds[0]);
    hold->next_grant = message->segment->grant;
    channel->log_failures = 0;
    channel->log_trouble[0] = '\0';
    if (has_listener(channel))
        give_to_worker(channel, &hold->next_grant, hold->next);
}

static void handle_no_segment(struct channel *channel, const struct message_segment *segment)
{
    if (segment->error == ENOSPC)
        archive_client_expire(channel); /* retention may make room before the next attempt */
    if (channel->log_state == LOG_OPENING) {
        enter_trouble(channel, segment->reason);
    } else if (channel->next_requested) {
        channel->next_requested = false;
        channel->next_retry = true;
        uint64_t delay = arm_retry(channel);
        if (strcmp(channel->log_trouble, segment->reason) != 0)
            log_error("channel %s: the next segment can't be prepared: %s; when the current one is "
                      "full, datagrams are "
                      "relayed but not recorded (record_lost); next attempt in %.1f s",
                      channel->spec->name, segment->reason, (double)delay / 1e9);
        snprintf(channel->log_trouble, sizeof channel->log_trouble, "%s", segment->reason);
    }
}

static void handle_segment(struct channel *channel, struct message *message)
{
    bool ended = has_ended(channel);
    if (message->segment->error) {
        handle_no_segment(channel, message->segment);
    } else if (channel->log_state == LOG_OPENING && !ended) {
        take_as_log(channel, message);
    } else if (channel->next_requested && channel->hold.next < 0 && !ended) {
        take_as_next(channel, message);
    } else {
        drop_segment(channel, message); /* asked twice, or nobody wants it any more */
    }
    if (ended) {
        channel->next_requested = false;
        if (channel->log_state == LOG_OPENING)
            channel->log_state = LOG_NONE;
        supervisor_changed(channel->supervisor);
    }
}

void channel_log_handle(struct channel *channel, struct message *message)
{
    if (message->header.type == MESSAGE_RECOVERED)
        handle_recovered(channel, message->recovered);
    else if (message->header.type == MESSAGE_SEGMENT)
        handle_segment(channel, message);
    handover_changed(channel);
}

/* ---- what the worker says ---- */

void channel_log_wanted(struct channel *channel)
{
    if (channel->log_state != LOG_OPEN || channel->hold.next >= 0 || channel->next_requested ||
        channel->next_retry)
        return;
    int error = archive_client_open_segment(channel);
    /* Without an archive it stays asked for: channel_log_archive_back(). The worker asks again
     * every 2 s. */
    channel->next_requested = error == 0 || error == -ENOTCONN || error == -EPIPE;
}

int channel_log_rotate(struct channel *channel, const char **ret_why)
{
    struct message_empty empty = {0};
    int error = child_send(channel->worker, MESSAGE_ROTATE, &empty, sizeof empty, NULL, 0);
    if (error < 0) {
        *ret_why = "its worker can't be reached just now: try again";
        return error;
    }
    channel_log_wanted(channel);
    return 0;
}

static void begin_current(struct channel *channel, const struct message_segment_done *done)
{
    struct segment_grant *grant = &channel->hold.log_grant;
    snprintf(channel->log_began_as, sizeof channel->log_began_as, "%s", grant->name);
    avro_log_segment_name(channel->spec->name, done->begun_first_seq, done->begun_created_ns,
                          grant->name);
    channel->log_begun = true;
    if (!channel->cleaning)
        archive_client_begin(channel, channel->log_began_as, grant->name);
    log_info("channel %s: recording to %s", channel->spec->name, grant->name);
}

/* Seal the current segment at this length, or let the archive find it out (UINT64_MAX), and let go
 * of it. */
static void release_log(struct channel *channel, uint64_t length)
{
    struct hold *hold = &channel->hold;
    if (hold->log < 0)
        return;
    if (length > hold->log_grant.size)
        length = UINT64_MAX;
    if (channel->cleaning &&
        channel->log_begun) { /* it still has its old name; recovery gives it the right one */
        memcpy(hold->log_grant.name, channel->log_began_as, sizeof hold->log_grant.name);
        channel->log_begun = false;
        length = UINT64_MAX;
    }
    archive_client_seal(channel, &hold->log_grant, channel->log_begun ? channel->log_began_as : "",
                        length);
    fd_close(&hold->log);
    channel->log_begun = false;
}

static void release_next(struct channel *channel, uint64_t length)
{
    struct hold *hold = &channel->hold;
    if (hold->next < 0)
        return;
    archive_client_seal(channel, &hold->next_grant, "", length);
    fd_close(&hold->next);
}

static void promote_next(struct channel *channel)
{
    struct hold *hold = &channel->hold;
    hold->log = fd_take(&hold->next);
    hold->log_grant = hold->next_grant;
    channel->log_begun = false;
    channel->log_state = LOG_OPEN;
}

void channel_log_done(struct channel *channel, const struct message_segment_done *done)
{
    struct hold *hold = &channel->hold;
    if (done->begun_first_seq > INT64_MAX) {
        child_violated(channel->worker, "SEGMENT_DONE with an impossible sequence number");
        return;
    }
    if (hold->log >= 0 && done->begun_id == hold->log_grant.id) {
        if (!channel->log_begun)
            begin_current(channel, done);
    } else if (hold->next >= 0 && done->begun_id == hold->next_grant.id) {
        if (hold->log >= 0)
            release_log(channel, done->finished_id == hold->log_grant.id ? done->finished_length
                                                                         : UINT64_MAX);
        promote_next(channel);
        begin_current(channel, done);
    } else {
        log_debug("channel %s: SEGMENT_DONE of a segment that is not held: ignored",
                  channel->spec->name);
    }
    handover_changed(channel);
}

void channel_log_failed(struct channel *channel, const struct message_log_failed *failed)
{
    struct hold *hold = &channel->hold;
    char reason[MESSAGE_REASON_SIZE];
    snprintf(reason, sizeof reason, "writing failed: %.100s (%.40s)", failed->reason,
             strerror(failed->error));

    if (hold->next >= 0 && failed->segment_id == hold->next_grant.id) {
        release_next(channel, failed->committed_length);
        channel->next_retry = true;
        arm_retry(channel);
        log_error("channel %s: the next segment is unusable: %s", channel->spec->name, reason);
        return;
    }
    if (hold->log < 0 || failed->segment_id != hold->log_grant.id)
        return; /* said before */
    release_log(channel, failed->committed_length);
    if (hold->next >= 0) { /* the worker has it, and goes on there by itself */
        log_error("channel %s: %s; recording goes on in the next segment", channel->spec->name,
                  reason);
        promote_next(channel);
    } else if (channel->next_requested) { /* the answer that is under way becomes the current one */
        channel->next_requested = false;
        channel->log_state = LOG_OPENING;
        log_error("channel %s: %s; a new segment is on its way", channel->spec->name, reason);
    } else {
        enter_trouble(channel, reason);
    }
    handover_changed(channel);
}

void channel_log_seal_all(struct channel *channel)
{
    const struct message_bye *bye = &channel->bye;
    bool known = channel->bye_said && channel->stop_seals;
    struct hold *hold = &channel->hold;

    channel->log_timer = sd_event_source_disable_unref(channel->log_timer);
    channel->next_retry = false;
    release_next(channel, known && bye->segment_id != hold->next_grant.id ? 0 : UINT64_MAX);
    release_log(channel, known && bye->segment_id == hold->log_grant.id ? bye->committed_length
                                                                        : UINT64_MAX);
    if (channel->log_state == LOG_OPEN || channel->log_state == LOG_TROUBLE)
        channel->log_state = LOG_NONE;
}
