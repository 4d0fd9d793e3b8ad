/* SPDX-License-Identifier: MIT */
/* Talks to the archive process, the only one that touches the log directory, and keeps it running.
 * Channels ask here; answers go to channel_log.c. Seals outlive the archive: each is kept until it
 * was answered. */
#include "supervisor/archive/archive_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "common/log.h"

struct seal_request {
    struct seal_request *next;
    char began_as[SEGMENT_NAME_SIZE]; /* "" = it was not begun */
    struct message_seal seal;
};

static void set_channel(char (*to)[CHANNEL_NAME_SIZE], const struct channel *channel)
{
    snprintf(*to, sizeof *to, "%s", channel->spec->name);
}

static int send_to(struct supervisor *supervisor, enum message_type type, const void *payload,
                   size_t size)
{
    if (!supervisor->archive)
        return -ENOTCONN;
    return child_send(supervisor->archive, type, payload, size, NULL, 0);
}

/* ---- requests ---- */

int archive_client_recover(struct channel *channel)
{
    const struct hold *hold = &channel->hold;
    struct message_recover recover = {0};
    set_channel(&recover.channel, channel);
    if (hold->log >= 0)
        memcpy(recover.keep[recover.keep_count++], hold->log_grant.name, SEGMENT_NAME_SIZE);
    if (hold->next >= 0)
        memcpy(recover.keep[recover.keep_count++], hold->next_grant.name, SEGMENT_NAME_SIZE);
    return send_to(channel->supervisor, MESSAGE_RECOVER, &recover, sizeof recover);
}

int archive_client_open_segment(struct channel *channel)
{
    struct message_open_segment open = {.size = channel->spec->record.segment_size};
    set_channel(&open.channel, channel);
    return send_to(channel->supervisor, MESSAGE_OPEN_SEGMENT, &open, sizeof open);
}

static int send_begin(struct supervisor *supervisor, const char *channel, const char *from,
                      const char *to)
{
    struct message_begin_segment begin = {0};
    if (strcmp(from, to) == 0)
        return 0; /* restored under its final name */
    snprintf(begin.channel, sizeof begin.channel, "%s", channel);
    snprintf(begin.from, sizeof begin.from, "%s", from);
    snprintf(begin.to, sizeof begin.to, "%s", to);
    return send_to(supervisor, MESSAGE_BEGIN_SEGMENT, &begin, sizeof begin);
}

int archive_client_begin(struct channel *channel, const char *from, const char *to)
{
    return send_begin(channel->supervisor, channel->spec->name, from, to);
}

void archive_client_expire(struct channel *channel)
{
    const struct record_spec *record = &channel->spec->record;
    struct child *archive = channel->supervisor->archive;
    if (!record->enabled ||
        (!record->keep_for_ns && !record->keep_at_most && !record->keep_free_ppm))
        return;
    if (!archive || archive->queue)
        return; /* it is behind already, and will be asked again */
    struct message_expire expire = {.keep_for_ns = record->keep_for_ns,
                                    .keep_at_most = record->keep_at_most,
                                    .keep_free_ppm = record->keep_free_ppm};
    set_channel(&expire.channel, channel);
    send_to(channel->supervisor, MESSAGE_EXPIRE, &expire, sizeof expire);
}

void archive_client_seal(struct channel *channel, const struct segment_grant *grant,
                         const char *began_as, uint64_t length)
{
    struct supervisor *supervisor = channel->supervisor;
    struct seal_request *request = calloc(1, sizeof *request);
    if (!request) {
        log_error("channel %s: no memory to have %s sealed; the next start recovers it",
                  channel->spec->name, grant->name);
        supervisor->left_unsealed = true;
        return;
    }
    snprintf(request->began_as, sizeof request->began_as, "%s", began_as);
    set_channel(&request->seal.channel, channel);
    snprintf(request->seal.name, sizeof request->seal.name, "%s", grant->name);
    request->seal.id = grant->id;
    request->seal.length = length;
    request->next = supervisor->seals;
    supervisor->seals = request;
    supervisor->seal_count++;
    send_to(supervisor, MESSAGE_SEAL, &request->seal, sizeof request->seal);
}

/* ---- answers ---- */

static void handle_sealed(struct supervisor *supervisor, struct channel *channel,
                          const struct message_sealed *sealed)
{
    struct seal_request **at = &supervisor->seals;
    while (*at &&
           ((*at)->seal.id != sealed->id || strcmp((*at)->seal.channel, sealed->channel) != 0))
        at = &(*at)->next;
    if (!*at)
        return; /* answered before its archive died, and asked again of this one */
    struct seal_request *request = *at;
    *at = request->next;
    free(request);
    supervisor->seal_count--;
    if (sealed->error) {
        log_error("channel %s: segment %s could not be sealed: %s; the next start recovers it",
                  sealed->channel, sealed->name, sealed->reason);
        supervisor->left_unsealed = true;
    } else if (sealed->length > 0) {
        log_info("channel %s: sealed %s, %llu bytes", sealed->channel, sealed->name,
                 (unsigned long long)sealed->length);
        if (!supervisor->stopping)
            archive_client_expire(channel);
    }
    supervisor_changed(supervisor);
}

void archive_client_handle(struct child *archive, struct message *message)
{
    struct supervisor *supervisor = archive->supervisor;
    const char *name = message->header.type == MESSAGE_SEGMENT     ? message->segment->channel
                       : message->header.type == MESSAGE_RECOVERED ? message->recovered->channel
                       : message->header.type == MESSAGE_SEALED    ? message->sealed->channel
                                                                   : NULL;
    if (message->header.type == MESSAGE_READY || message->header.type == MESSAGE_BYE)
        return;
    if (!name) {
        child_violated(archive, "a message that is not the archive's to send");
        return;
    }
    struct channel *channel = supervisor_find_channel(supervisor, name);
    if (!channel)
        log_warning("archive: an answer for channel %s, which does not exist: ignored", name);
    else if (message->header.type == MESSAGE_SEALED)
        handle_sealed(supervisor, channel, message->sealed);
    else
        channel_log_handle(channel, message);
}

/* ---- the process ---- */

/* Newest first in the list; their order among each other doesn't matter, only that a name is given
 * before a seal. */
static void ask_again(struct supervisor *supervisor)
{
    for (struct seal_request *request = supervisor->seals; request; request = request->next) {
        if (request->began_as[0])
            send_begin(supervisor, request->seal.channel, request->began_as, request->seal.name);
        send_to(supervisor, MESSAGE_SEAL, &request->seal, sizeof request->seal);
    }
    for (size_t i = 0; i < supervisor->channel_count; i++)
        channel_log_archive_back(supervisor->channels[i]);
}

static int on_restart(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    archive_client_start(userdata);
    return 0;
}

/* The archive is never given up: without it nothing is recorded, and its failing costs nobody else
 * anything. */
static void restart_later(struct supervisor *supervisor, const char *what)
{
    struct restart_limits limits = supervisor->settings->restart;
    limits.give_up_after = 0;
    struct restart_history history = {supervisor->archive_deaths_in_a_row,
                                      supervisor->archive_running_since};
    struct restart_decision decision =
        restart_policy_decide(&limits, &history, monotonic_now(), supervisor_random());
    supervisor->archive_deaths_in_a_row = decision.deaths_in_a_row;
    supervisor->archive_running_since = (monotonic){0};
    uint64_t delay = decision.verdict == RESTART_NOW ? 0 : decision.delay_ns;
    log_error("%s; segments are neither made nor sealed until it runs again, in %.3g s", what,
              (double)delay / 1e9);
    if (supervisor_arm(supervisor, &supervisor->archive_timer, delay, on_restart, supervisor) < 0)
        log_error("no memory for a timer: the archive is not restarted");
}

void archive_client_start(struct supervisor *supervisor)
{
    struct message_assign assign = {.role = ROLE_ARCHIVE};
    char what[128];
    int error = 0;

    struct child *archive = supervisor_take_child(supervisor, &error);
    if (!archive) {
        snprintf(what, sizeof what, "can't start the archive: %s", strerror(-error));
        restart_later(supervisor, what);
        return;
    }
    archive->kind = CHILD_ARCHIVE;
    archive->generation = ++supervisor->next_generation;
    archive->assigned = monotonic_now();
    supervisor->archive = archive;
    supervisor->archive_running_since = archive->assigned;
    supervisor->archive_told_to_stop = false;
    snprintf(assign.log_dir, sizeof assign.log_dir, "%s", supervisor->settings->log_dir);
    error = child_send(archive, MESSAGE_ASSIGN, &assign, sizeof assign, NULL, 0);
    if (error < 0) {
        log_error("can't tell the archive what it is: %s", strerror(-error));
        child_kill(archive, SIGKILL);
        return;
    }
    ask_again(supervisor);
}

void archive_client_ended(struct child *archive, const siginfo_t *end)
{
    struct supervisor *supervisor = archive->supervisor;
    char how[64], what[160];

    child_describe_end(end, how, sizeof how);
    snprintf(what, sizeof what, "%s %s", child_describe(archive), how);
    supervisor->archive = NULL;
    if (!supervisor->archive_told_to_stop)
        restart_later(supervisor, what);
    supervisor_changed(supervisor);
}

void archive_client_stop(struct supervisor *supervisor)
{
    struct message_stop stop = {.seal = 1};
    if (supervisor->archive_told_to_stop)
        return;
    supervisor->archive_told_to_stop = true;
    supervisor->archive_timer = sd_event_source_disable_unref(supervisor->archive_timer);
    if (supervisor->archive && send_to(supervisor, MESSAGE_STOP, &stop, sizeof stop) < 0)
        child_kill(supervisor->archive, SIGTERM);
}

void archive_client_free(struct supervisor *supervisor)
{
    child_free(supervisor->archive);
    supervisor->archive = NULL;
    sd_event_source_disable_unref(supervisor->archive_timer);
    for (struct seal_request *request = supervisor->seals; request;) {
        struct seal_request *next = request->next;
        log_warning("channel %s: segment %s was not sealed; the next start recovers it",
                    request->seal.channel, request->seal.name);
        free(request);
        request = next;
    }
    supervisor->seals = NULL;
}
