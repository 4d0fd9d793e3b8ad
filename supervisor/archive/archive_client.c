/* SPDX-License-Identifier: MIT */
/* Talks to the archive process, the only one that touches the log directory, and keeps it running.
 * Channels' recordings ask here. Seals outlive the archive: each is kept until it was answered. */
#include "supervisor/archive/archive_client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "common/log.h"
#include "supervisor/child/child.h"
#include "supervisor/child/restart.h"
#include "supervisor/system/process.h"
#include "supervisor/system/timer.h"

#define SETTLED_NS (2 * NS_PER_S) /* so long it has not crashed */

static void set_channel(char (*to)[CHANNEL_NAME_SIZE], const char *channel)
{
    snprintf(*to, sizeof *to, "%s", channel);
}

static int send_to(struct archive_client *client, enum message_type type, const void *payload,
                   size_t size)
{
    if (!client->child)
        return -ENOTCONN;
    int error = child_send(client->child, type, payload, size, NULL, 0);
    bool answers = type == MESSAGE_RECOVER || type == MESSAGE_OPEN_SEGMENT ||
                   type == MESSAGE_SEAL || type == MESSAGE_SYNC || type == MESSAGE_NUMBERS ||
                   type == MESSAGE_POSITION_SAVE;
    if (error == 0 && answers && client->unanswered++ == 0)
        client->heard = monotonic_now();
    return error;
}

static void note_answer(struct archive_client *client)
{
    client->heard = monotonic_now();
    client->down_since = (monotonic){0};
    if (client->unanswered > 0)
        client->unanswered--;
}

uint64_t archive_client_silence(const struct archive_client *client, monotonic now)
{
    monotonic since = client->down_since.ns ? client->down_since : client->heard;
    uint64_t silence = monotonic_since(now, since);
    bool is_silent = client->down_since.ns || (client->child && client->unanswered > 0);
    return is_silent && silence >= ARCHIVE_SILENCE_NS ? silence : 0;
}

bool archive_client_is_busy(const struct archive_client *client, monotonic now)
{
    return client->child && client->unanswered > 0 &&
           monotonic_since(now, client->heard) > NS_PER_S;
}

const char *archive_client_silence_cause(const struct archive_client *client)
{
    return client->down_since.ns
               ? "the archive process has ended, and none that was started since has answered: see "
                 "the log"
               : "the archive does not answer: does the disk of log_dir hang?";
}

/* ---- requests ---- */

int archive_client_recover(struct archive_client *client, const char *channel,
                           const struct segment_grant *const keep[2], uint32_t flags)
{
    struct message_recover recover = {.flags = flags};
    set_channel(&recover.channel, channel);
    for (int i = 0; i < 2; i++) {
        if (!keep[i])
            continue;
        recover.keep_id[recover.keep_count] = keep[i]->id;
        memcpy(recover.keep[recover.keep_count++], keep[i]->name, SEGMENT_NAME_SIZE);
    }
    return send_to(client, MESSAGE_RECOVER, &recover, sizeof recover);
}

int archive_client_open_segment(struct archive_client *client, const char *channel, uint64_t size)
{
    struct message_open_segment open = {.size = size};
    set_channel(&open.channel, channel);
    return send_to(client, MESSAGE_OPEN_SEGMENT, &open, sizeof open);
}

void archive_client_begin(struct archive_client *client, const char *channel, const char *from,
                          const char *to)
{
    struct message_begin_segment begin = {0};
    if (strcmp(from, to) == 0)
        return; /* restored under its final name */
    set_channel(&begin.channel, channel);
    snprintf(begin.from, sizeof begin.from, "%s", from);
    snprintf(begin.to, sizeof begin.to, "%s", to);
    send_to(client, MESSAGE_BEGIN_SEGMENT, &begin, sizeof begin);
}

/* Without an archive it is asked of the next one. */
static void ask_to_note(struct archive_client *client, struct numbers_request *request)
{
    int error = send_to(client, MESSAGE_NUMBERS, &request->numbers, sizeof request->numbers);
    request->refused = error < 0 && error != -ENOTCONN && error != -EPIPE;
}

void archive_client_note_numbers(struct archive_client *client, const char *channel,
                                 uint64_t next_seq, const char *listen)
{
    struct message_numbers numbers = {.next_seq = next_seq};
    set_channel(&numbers.channel, channel);
    snprintf(numbers.listen, sizeof numbers.listen, "%s", listen);
    struct numbers_request *request = numbers_requests_add(&client->numbers, &numbers);
    if (request)
        ask_to_note(client, request);
    else
        log_error("channel %s: no memory to have it noted that numbers up to %llu were given",
                  channel, (unsigned long long)next_seq - 1);
}

void archive_client_expire(struct archive_client *client, const char *channel,
                           const struct record_spec *record)
{
    if (!record->enabled ||
        (!record->keep_for_ns && !record->keep_at_most && !record->keep_free_ppm))
        return;
    if (!client->child || client->child->queue)
        return; /* it is behind already, and will be asked again */
    struct message_expire expire = {.keep_for_ns = record->keep_for_ns,
                                    .keep_at_most = record->keep_at_most,
                                    .keep_free_ppm = record->keep_free_ppm};
    set_channel(&expire.channel, channel);
    send_to(client, MESSAGE_EXPIRE, &expire, sizeof expire);
}

int archive_client_sync(struct archive_client *client, const struct message_sync *sync)
{
    return send_to(client, MESSAGE_SYNC, sync, sizeof *sync);
}

int archive_client_sweep(struct archive_client *client, const char *channel, bool last)
{
    struct message_sweep sweep = {.last = last};
    set_channel(&sweep.channel, channel);
    return send_to(client, MESSAGE_SWEEP, &sweep, sizeof sweep);
}

static void answer_position(struct archive_client *client, struct position_request *request,
                            const struct message_position_saved *answer)
{
    struct message_position_saved saved = *answer;
    saved.turn = request->its_turn;
    memcpy(saved.channel, request->save.channel, sizeof saved.channel);
    memcpy(saved.name, request->save.name, sizeof saved.name);
    client->owner.position(client->owner.data, request->asker, &saved);
    free(request);
}

static void refuse_position(struct archive_client *client, struct position_request *request)
{
    static const struct message_position_saved refused = {
        .error = EAGAIN,
        .reason = "the channel's log is being recovered, and no position is kept before that is "
                  "done: save again"};
    answer_position(client, request, &refused);
}

static struct position_judge judge_of(const struct archive_client *client)
{
    return (struct position_judge){client->owner.position_judge, client->owner.data};
}

/* Those that have waited long enough. */
static void refuse_positions(struct archive_client *client)
{
    const struct position_judge judge = judge_of(client);
    struct position_request *next,
        *request = position_requests_take_refused(&client->positions, &judge);
    for (; request; request = next) {
        next = request->next;
        refuse_position(client, request);
    }
}

/* What can't be sent is sent with the next one, or to the next archive. An end waits for none that
 * nobody has been told of. */
static void ask_for_positions(struct archive_client *client)
{
    const struct position_judge judge = judge_of(client);
    struct position_request *request;
    while (client->child && !client->told_to_stop &&
           (request = position_requests_next(&client->positions, &judge)) &&
           send_to(client, MESSAGE_POSITION_SAVE, &request->save, sizeof request->save) == 0)
        position_requests_note_asked(&client->positions, request);
}

int archive_client_position(struct archive_client *client, uint64_t asker,
                            const struct message_position_save *save)
{
    struct message_position_save judged = *save;
    int error = position_requests_add(&client->positions, asker, save);
    if (error < 0)
        return error;
    if (client->owner.position_judge(client->owner.data, &judged) == POSITION_IS_REFUSED)
        refuse_positions(client);
    else
        ask_for_positions(client);
    return 0;
}

/* Where it was asked before, that may have been done. */
static void send_seal(struct archive_client *client, struct seal_request *request)
{
    if (send_to(client, MESSAGE_SEAL, &request->seal, sizeof request->seal) < 0)
        return;
    request->seal.again = 1;
    request->due++;
}

/* Again: first the name, which may not have been given to it either. */
static void ask_to_seal(struct archive_client *client, struct seal_request *request)
{
    if (request->began_as[0])
        archive_client_begin(client, request->seal.channel, request->began_as, request->seal.name);
    send_seal(client, request);
}

/* channel: NULL = any */
static void seal_failed_again(struct archive_client *client, const char *channel)
{
    struct seal_request *request, *next;
    for (request = client->failed; client->child && request; request = next) {
        next = request->next;
        if (channel && strcmp(request->seal.channel, channel) != 0)
            continue;
        seal_requests_remove(&client->failed, request);
        seal_requests_append(&client->seals, request);
        client->seal_count++;
        ask_to_seal(client, request);
    }
}

void archive_client_seal(struct archive_client *client, const char *channel,
                         const struct segment_grant *grant, const struct seal_order *order)
{
    struct seal_request *request = calloc(1, sizeof *request);
    if (!request) {
        log_error("channel %s: no memory to have %s sealed; the next start recovers it", channel,
                  grant->name);
        client->left_unsealed = true;
        return;
    }
    snprintf(request->began_as, sizeof request->began_as, "%s", order->began_as);
    set_channel(&request->seal.channel, channel);
    snprintf(request->seal.name, sizeof request->seal.name, "%s", grant->name);
    request->seal.id = grant->id;
    request->seal.length = order->length;
    request->seal.copy = order->copy;
    /* One that may be empty is kept for its number if the one before isn't sealed. */
    if (order->length == 0 || order->length == UINT64_MAX)
        seal_failed_again(client, channel);
    seal_requests_append(&client->seals, request);
    client->seal_count++;
    send_seal(client, request);
}

/* It may have been read as it was already: then it is asked for once more. */
bool archive_client_copy(struct archive_client *client, const char *channel,
                         const struct segment_grant *grant)
{
    /* Sealed by now, the file itself says best how long it is. */
    const struct seal_order order = {.began_as = "", .length = UINT64_MAX, .copy = true};
    struct seal_request *asked = seal_requests_find(client->seals, channel, grant->id);
    struct seal_request *failed = seal_requests_find(client->failed, channel, grant->id);
    struct seal_request *request = asked ? asked : failed;
    if (!request) {
        archive_client_seal(client, channel, grant, &order);
        return true;
    }
    if (request->seal.copy)
        return false;
    request->seal.copy = 1;
    if (asked)
        send_seal(client, asked);
    return true;
}

void archive_client_seal_failed_again(struct archive_client *client)
{
    struct seal_request *request;
    for (request = client->seals; client->child && request; request = request->next)
        if (request->due == 0) /* it could not be sent */
            ask_to_seal(client, request);
    seal_failed_again(client, NULL);
    struct numbers_request *numbers = client->numbers;
    for (; client->child && numbers; numbers = numbers->next)
        if (numbers->refused)
            ask_to_note(client, numbers);
    ask_for_positions(client);
}

bool archive_client_is_to_seal(const struct archive_client *client, const char *channel)
{
    return seal_requests_have(client->seals, channel) ||
           seal_requests_have(client->failed, channel);
}

size_t archive_client_unsealed(const struct archive_client *client, const char *channel,
                               const char **ret_name)
{
    const struct seal_request *lists[] = {client->failed, client->seals}; /* asked again just now */
    size_t count = 0;
    *ret_name = NULL;
    for (int i = 0; i < 2; i++)
        for (const struct seal_request *it = lists[i]; it; it = it->next)
            if (it->told && strcmp(it->seal.channel, channel) == 0 && ++count)
                *ret_name = it->seal.name;
    return count;
}

bool archive_client_left_unsealed(const struct archive_client *client)
{
    return client->left_unsealed || client->seal_count > 0 || client->failed || client->numbers;
}

bool archive_client_is_awaited(const struct archive_client *client)
{
    return client->seal_count > 0 || numbers_requests_are_awaited(client->numbers);
}

/* ---- answers ---- */

static void handle_sealed(struct archive_client *client, const struct message_sealed *sealed)
{
    struct seal_request *request = seal_requests_find(client->seals, sealed->channel, sealed->id);
    if (!request || request->due == 0 || --request->due > 0)
        return; /* nobody's, or it was asked once more meanwhile: that answer is the last word */
    seal_requests_remove(&client->seals, request);
    client->seal_count--;
    bool hopeless = sealed->error == ENOENT || sealed->error == ESTALE;
    if (hopeless) {
        log_error("channel %s: segment %s could not be sealed: %s", sealed->channel, sealed->name,
                  sealed->reason);
        client->left_unsealed = true;
        free(request);
    } else if (sealed->error) {
        if (!request->told)
            log_error("channel %s: segment %s could not be sealed: %s; tried again every minute, "
                      "and by the next start",
                      sealed->channel, sealed->name, sealed->reason);
        request->told = true;
        if (sealed->error == EIO || sealed->error == ENOSPC || sealed->error == EDQUOT)
            request->seal.copy = 1;
        seal_requests_append(&client->failed, request);
    } else {
        free(request);
        if (sealed->length > 0)
            log_info("channel %s: sealed %s, %llu bytes", sealed->channel, sealed->name,
                     (unsigned long long)sealed->length);
    }
    client->owner.sealed(client->owner.data, sealed->channel, !sealed->error && sealed->length > 0);
}

static void handle_numbered(struct archive_client *client, const struct message_numbered *numbered)
{
    struct numbers_request *request = numbers_requests_find(client->numbers, numbered->channel);
    if (!numbered->error) {
        numbers_requests_done(&client->numbers, numbered);
    } else if (request) {
        if (!request->told)
            log_error("channel %s: datagrams up to number %llu were received and could not be "
                      "recorded, and not even that could be noted: %s; tried again every minute",
                      numbered->channel, (unsigned long long)numbered->next_seq - 1,
                      numbered->reason);
        request->told = request->refused = true;
    }
}

static void handle_position(struct archive_client *client,
                            const struct message_position_saved *answer)
{
    struct position_request *request = position_requests_take(&client->positions, answer->turn);
    if (!request)
        return;
    answer_position(client, request, answer);
    ask_for_positions(client);
}

/* Trouble with log_dir as a whole is told once, here; each channel has it as its own beside. */
static void handle_log_dir(struct archive_client *client, struct message *message)
{
    const struct message_log_dir *log_dir = message->log_dir;
    if (log_dir->error) {
        log_error("log_dir can't be worked in: %s", log_dir->reason);
        memcpy(client->trouble, log_dir->reason, sizeof client->trouble);
        return;
    }
    if (client->trouble[0])
        log_notice("%s can be worked in again", client->settings->log_dir);
    client->trouble[0] = '\0';
    fd_close(&client->lock);
    client->lock = fd_take(&message->fds[0]);
    client->outer_mount = log_dir->outer_mount;
}

static void archive_message(struct child *child, struct message *message)
{
    struct archive_client *client = child->owner.data;
    const struct archive_owner *owner = &client->owner;

    spares_prove(client->spares, child);
    switch (message->header.type) {
    case MESSAGE_READY:
    case MESSAGE_BYE:
        break;
    case MESSAGE_SEGMENT:
        note_answer(client);
        owner->answer(owner->data, message->segment->channel, message);
        break;
    case MESSAGE_RECOVERED:
        note_answer(client);
        owner->answer(owner->data, message->recovered->channel, message);
        ask_for_positions(client); /* some may have waited for that */
        break;
    case MESSAGE_SYNCED:
        note_answer(client);
        owner->answer(owner->data, message->synced->channel, message);
        break;
    case MESSAGE_SEALED:
        note_answer(client);
        handle_sealed(client, message->sealed);
        break;
    case MESSAGE_NUMBERED:
        note_answer(client);
        handle_numbered(client, message->numbered);
        owner->answer(owner->data, message->numbered->channel, message);
        break;
    case MESSAGE_POSITION_SAVED:
        note_answer(client);
        handle_position(client, message->position_saved);
        break;
    case MESSAGE_LOG_DIR:
        handle_log_dir(client, message);
        break;
    default:
        child_violated(child, "a message that is not the archive's to send");
        break;
    }
}

/* ---- the process ---- */

/* Oldest first, and a name is given before a seal. */
static void ask_again(struct archive_client *client)
{
    for (struct seal_request *request = client->seals; request; request = request->next) {
        request->due = 0; /* of this archive */
        ask_to_seal(client, request);
    }
    struct numbers_request *numbers = client->numbers;
    for (; numbers; numbers = numbers->next)
        ask_to_note(client, numbers);
    position_requests_again(&client->positions);
    ask_for_positions(client);
    client->owner.back(client->owner.data);
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
static void restart_later(struct archive_client *client, const char *what)
{
    uint64_t delay = restart_delay(&client->restart, &client->settings->restart);
    log_error("%s; segments are neither made nor sealed until it runs again, in %.3g s", what,
              (double)delay / 1e9);
    if (timer_arm(&client->timer, client->event, delay, on_restart, client) < 0)
        log_error("no memory for a timer: the archive is not restarted");
}

static void archive_ended(struct child *child, const siginfo_t *end)
{
    struct archive_client *client = child->owner.data;
    char how[PROCESS_END_SIZE], what[PROCESS_END_SIZE + 64];

    process_describe_end(end, how, sizeof how);
    snprintf(what, sizeof what, "%s %s", child_describe(child), how);
    client->child = NULL;
    client->unanswered = 0;
    if (!client->told_to_stop && client->down_since.ns == 0)
        client->down_since = monotonic_now();
    if (!client->told_to_stop)
        restart_later(client, what);
    client->owner.ended(client->owner.data);
}

void archive_client_start(struct archive_client *client)
{
    const struct child_owner owner = {
        .role = "archive", .message = archive_message, .ended = archive_ended, .data = client};
    struct message_assign assign = {.role = ROLE_ARCHIVE};
    char what[128];
    int error = 0;

    struct child *child = spares_take(client->spares, &owner, &error);
    if (!child) {
        snprintf(what, sizeof what, "can't start the archive: %s", strerror(-error));
        restart_later(client, what);
        return;
    }
    client->child = child;
    client->restart.running_since = child->assigned;
    client->told_to_stop = false;
    snprintf(assign.log_dir, sizeof assign.log_dir, "%s", client->settings->log_dir);
    assign.has_lock = client->lock >= 0;
    assign.outer_mount = client->outer_mount;
    error =
        child_send(child, MESSAGE_ASSIGN, &assign, sizeof assign, &client->lock, assign.has_lock);
    if (error < 0) {
        log_error("can't tell the archive what it is: %s", strerror(-error));
        child_kill(child, SIGKILL);
        return;
    }
    ask_again(client);
}

void archive_client_look(struct archive_client *client, monotonic now)
{
    refuse_positions(client);
    ask_for_positions(client);
    if (client->child && client->unanswered == 0 &&
        monotonic_since(now, client->child->assigned) > SETTLED_NS)
        client->down_since = (monotonic){0}; /* it runs, and nothing was to be asked */
    if (!client->child || archive_client_silence(client, now) < ARCHIVE_STOPPED_NS)
        return;
    char state = process_task_state(client->child->pid, (uint32_t)client->child->pid);
    if (state != 'T' && state != 't')
        return; /* it works, or waits for a disk: another one would do the same */
    log_error("%s has been stopped for %llu s; it is killed, and another one started",
              child_describe(client->child), (unsigned long long)(ARCHIVE_STOPPED_NS / NS_PER_S));
    child_kill(client->child, SIGKILL);
}

void archive_client_stop(struct archive_client *client)
{
    struct message_stop stop = {.seal = 1};
    if (client->told_to_stop)
        return;
    archive_client_seal_failed_again(client); /* the last occasion */
    client->told_to_stop = true;
    timer_disarm(&client->timer);
    if (client->child && send_to(client, MESSAGE_STOP, &stop, sizeof stop) < 0)
        child_kill(client->child, SIGTERM);
}

void archive_client_go_on(struct archive_client *client)
{
    client->told_to_stop = false;
    ask_for_positions(client);
    if (client->child)
        return;
    timer_disarm(&client->timer); /* it may be about to be started again */
    archive_client_start(client);
}

/* ---- life ---- */

void archive_client_init(struct archive_client *client, sd_event *event, struct spares *spares,
                         const struct settings *settings, const struct archive_owner *owner)
{
    *client = (struct archive_client){
        .event = event, .spares = spares, .settings = settings, .owner = *owner, .lock = -1};
}

void archive_client_free(struct archive_client *client)
{
    child_free(client->child);
    client->child = NULL;
    timer_disarm(&client->timer);
    fd_close(&client->lock);
    seal_requests_free(&client->seals);
    seal_requests_free(&client->failed);
    numbers_requests_free(&client->numbers);
    position_requests_free(&client->positions);
}
