/* SPDX-License-Identifier: MIT */
/* The archive's loop: takes messages from fd 3, serves what recording waits for first, answers.
 * Called by worker/main.c once it has been told to be the archive. Keeps nothing that a successor
 * would need: it may be killed at any instant, and the supervisor then asks the next one again. */
#include "worker/archive/archive.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/message.h"
#include "worker/archive/dir_lock.h"
#include "worker/archive/durable.h"
#include "worker/archive/folder.h"
#include "worker/archive/positions.h"
#include "worker/archive/recovery.h"
#include "worker/archive/recovery_process.h"
#include "worker/archive/retention.h"
#include "worker/archive/seal.h"
#include "worker/archive/segments.h"
#include "worker/archive/strays.h"

/* So often log_dir is looked at while there is nothing to do. */
#define LOOK_EVERY_MS 1000

struct request {
    struct request *next;
    unsigned type;
    bool urgent; /* a recorder waits for it */
    union {
        struct message_recover recover;
        struct message_open_segment open_segment;
        struct message_begin_segment begin_segment;
        struct message_seal seal;
        struct message_expire expire;
        struct message_sweep sweep;
        struct message_numbers numbers;
        struct message_sync sync;
        struct message_position_save position_save;
        char channel[CHANNEL_NAME_SIZE]; /* what each of them begins with */
    };
};

struct archive {
    int socket;
    uint64_t generation;
    const char *log_dir;
    struct dir_lock lock;
    struct request *queue; /* in the order of arrival */
    struct recovery_processes recoveries;
    struct recovery_process sweep;
    bool stopping; /* STOP: finish what is queued */
    bool gone; /* the supervisor closed: leave at once, another archive may be at work already */
    bool failed;
};

#define CHANNEL_FIRST(payload) (offsetof(struct message_##payload, channel) == 0)
_Static_assert(CHANNEL_FIRST(recover) && CHANNEL_FIRST(open_segment) &&
                   CHANNEL_FIRST(begin_segment) && CHANNEL_FIRST(seal) && CHANNEL_FIRST(expire) &&
                   CHANNEL_FIRST(sweep) && CHANNEL_FIRST(numbers) && CHANNEL_FIRST(sync) &&
                   CHANNEL_FIRST(position_save),
               "every request begins with its channel");

/* ---- the queue ---- */

static void enqueue(struct archive *archive, const struct message *message)
{
    struct request **end = &archive->queue;
    while (*end)
        end = &(*end)->next;
    struct request *request = calloc(1, sizeof *request);
    if (!request) {
        log_error("out of memory: another archive is asked for what this one can't keep in mind");
        archive->gone = archive->failed = true;
        return;
    }
    request->type = message->header.type;
    request->urgent =
        request->type == MESSAGE_OPEN_SEGMENT || request->type == MESSAGE_BEGIN_SEGMENT;
    memcpy(&request->recover, message->payload, message->header.payload_size);
    *end = request;
}

static void take_message(struct archive *archive, const struct message *message)
{
    switch (message->header.type) {
    case MESSAGE_RECOVER:
    case MESSAGE_OPEN_SEGMENT:
    case MESSAGE_BEGIN_SEGMENT:
    case MESSAGE_SEAL:
    case MESSAGE_SWEEP:
    case MESSAGE_EXPIRE:
    case MESSAGE_NUMBERS:
    case MESSAGE_SYNC:
    case MESSAGE_POSITION_SAVE:
        enqueue(archive, message);
        break;
    case MESSAGE_STOP:
        archive->stopping = true;
        break;
    default:
        log_warning("ignored a message that is not for an archive: %s",
                    message_name(message->header.type));
        break;
    }
}

/* Take everything that has arrived; with `wait`, until something has, a recovery has ended, or it
 * is time for a look. */
static void receive(struct archive *archive, bool wait)
{
    static struct message message; /* too large for a stack */
    const char *what;
    struct pollfd readable[2 + RECOVERY_PROCESSES] = {
        {.fd = archive->socket, .events = POLLIN}, {.fd = archive->sweep.ended, .events = POLLIN}};
    for (int i = 0; i < RECOVERY_PROCESSES; i++)
        readable[2 + i] =
            (struct pollfd){.fd = archive->recoveries.list[i].ended, .events = POLLIN};
    while (!archive->gone) {
        int ready = poll(readable, 2 + RECOVERY_PROCESSES, wait ? LOOK_EVERY_MS : 0);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0 || !readable[0].revents)
            return;
        wait = false;
        int result = message_receive(archive->socket, TO_CHILD, &message, &what);
        if (result == 1)
            take_message(archive, &message);
        else if (result == -EBADMSG)
            log_warning("refused a message: %s", what);
        else if (result != -EAGAIN)
            archive->gone = true;
        if (result == 1)
            message_release(&message);
    }
}

/* A segment is opened or begun before anything else, but not before its channel's RECOVER. */
static bool waits_for_recovery(const struct archive *archive, const struct request *request)
{
    if (recovery_processes_have(&archive->recoveries, request->channel))
        return true;
    for (const struct request *before = archive->queue; before != request; before = before->next)
        if (before->type == MESSAGE_RECOVER && strcmp(before->channel, request->channel) == 0)
            return true;
    return false;
}

/* Nothing in a folder that is being recovered. */
static bool can_be_served(struct archive *archive, const struct request *request)
{
    if (request->type == MESSAGE_SWEEP)
        return true; /* one names a channel: the last one must not go before it */
    if (request->type == MESSAGE_POSITION_SAVE)
        return true; /* in a folder that nobody recovers */
    if (request->urgent)
        return !waits_for_recovery(archive, request);
    return !recovery_processes_have(&archive->recoveries, request->channel) &&
           (request->type != MESSAGE_RECOVER || recovery_processes_find_free(&archive->recoveries));
}

/* NULL when nothing can be done just now. */
static struct request **find_next(struct archive *archive)
{
    struct request **first = NULL;
    for (struct request **at = &archive->queue; *at; at = &(*at)->next) {
        if (!can_be_served(archive, *at))
            continue;
        if ((*at)->urgent)
            return at;
        if (!first)
            first = at;
    }
    return first;
}

static struct request *take_next(struct archive *archive)
{
    struct request **from = find_next(archive);
    struct request *request = from ? *from : NULL;
    if (request)
        *from = request->next;
    return request;
}

/* ---- the work: what failed is in the answer, and the supervisor tells it ---- */

static void answer(struct archive *archive, enum message_type type, const void *payload,
                   size_t size, int *fd)
{
    struct pollfd writable = {.fd = archive->socket, .events = POLLOUT};
    for (;;) {
        int result =
            message_send(archive->socket, type, archive->generation, payload, size, fd, fd ? 1 : 0);
        if (result != -EAGAIN) {
            archive->gone |= result < 0;
            return;
        }
        poll(&writable, 1, -1);
    }
}

/* Is log_dir ours to work in? 0 or -errno, and the supervisor knows. Without a log_dir there is
 * nothing to keep anybody away from. */
static int hold_log_dir(struct archive *archive, bool create)
{
    struct message_log_dir message = {0};
    bool changed;
    int result = dir_lock_hold(&archive->lock, create, &changed);
    if (result == -ENOENT && !create)
        return 0;
    if (!changed)
        return result;
    message.error = -result;
    message.outer_mount = archive->lock.outer_mount;
    if (archive->lock.reason[0])
        memcpy(message.reason, archive->lock.reason, sizeof message.reason);
    else if (result < 0)
        folder_explain(archive->log_dir, "", -result, message.reason);
    answer(archive, MESSAGE_LOG_DIR, &message, sizeof message,
           message.error ? NULL : &archive->lock.fd);
    return result;
}

static void explain(const struct archive *archive, const char *channel, int result,
                    char ret_reason[MESSAGE_REASON_SIZE])
{
    if (archive->lock.reason[0])
        memcpy(ret_reason, archive->lock.reason, MESSAGE_REASON_SIZE);
    else
        folder_explain(archive->log_dir, channel, -result, ret_reason);
}

static void serve_open(struct archive *archive, const struct message_open_segment *request)
{
    struct message_segment segment = {0};
    int fd = -1;
    int result = hold_log_dir(archive, true);
    if (result == 0) {
        segments_open(archive->log_dir, request, &segment, &fd);
    } else {
        snprintf(segment.channel, sizeof segment.channel, "%s", request->channel);
        segment.error = -result;
        explain(archive, request->channel, result, segment.reason);
    }
    answer(archive, MESSAGE_SEGMENT, &segment, sizeof segment, segment.error ? NULL : &fd);
    fd_close(&fd);
}

static void serve_seal(struct archive *archive, const struct message_seal *request)
{
    struct message_sealed sealed = {.id = request->id};
    int result = hold_log_dir(archive, false);
    if (result == 0) {
        seal_run(archive->log_dir, request, &sealed);
    } else {
        snprintf(sealed.channel, sizeof sealed.channel, "%s", request->channel);
        snprintf(sealed.name, sizeof sealed.name, "%s", request->name);
        sealed.error = -result;
        explain(archive, request->channel, result, sealed.reason);
    }
    answer(archive, MESSAGE_SEALED, &sealed, sizeof sealed, NULL);
}

static void serve_numbers(struct archive *archive, const struct message_numbers *request)
{
    struct message_numbered numbered = {.next_seq = request->next_seq};
    int result = hold_log_dir(archive, false);
    if (result == 0) {
        segments_note_numbers(archive->log_dir, request, &numbered);
    } else {
        snprintf(numbered.channel, sizeof numbered.channel, "%s", request->channel);
        numbered.error = -result;
        explain(archive, request->channel, result, numbered.reason);
    }
    answer(archive, MESSAGE_NUMBERED, &numbered, sizeof numbered, NULL);
}

static void serve_sync(struct archive *archive, const struct message_sync *request)
{
    struct message_synced synced = {.turn = request->turn};
    int result = hold_log_dir(archive, false);
    if (result == 0)
        durable_make(archive->log_dir, request, &synced);
    else
        snprintf(synced.channel, sizeof synced.channel, "%s", request->channel);
    if (result < 0)
        synced.error = -result;
    answer(archive, MESSAGE_SYNCED, &synced, sizeof synced, NULL);
}

static void serve_position(struct archive *archive, const struct message_position_save *request)
{
    struct message_position_saved saved = {.turn = request->turn};
    int result = hold_log_dir(archive, !request->forget);
    if (result == 0) {
        positions_keep(archive->log_dir, request, &saved);
    } else {
        snprintf(saved.channel, sizeof saved.channel, "%s", request->channel);
        snprintf(saved.name, sizeof saved.name, "%s", request->name);
        saved.error = -result;
        explain(archive, request->channel, result, saved.reason);
    }
    answer(archive, MESSAGE_POSITION_SAVED, &saved, sizeof saved, NULL);
}

static void serve_recover(struct archive *archive, const struct message_recover *request)
{
    struct message_recovered recovered = {0};
    pid_t pid = -1;
    int result = hold_log_dir(archive, true);
    if (result == 0) {
        pid = recovery_process_fork(recovery_processes_find_free(&archive->recoveries),
                                    request->channel);
        if (pid > 0)
            return;
        recovery_run(archive->log_dir, request, &recovered); /* there, or here if need be */
        if (recovered.error == 0 && (request->flags & RECOVER_ANEW))
            positions_go_back(archive->log_dir, request->channel, recovered.next_seq);
    } else {
        snprintf(recovered.channel, sizeof recovered.channel, "%s", request->channel);
        recovered.error = -result;
        explain(archive, request->channel, result, recovered.reason);
    }
    recovered.flags = request->flags;
    answer(archive, MESSAGE_RECOVERED, &recovered, sizeof recovered, NULL);
    if (pid == 0)
        _exit(EXIT_SUCCESS);
}

/* Of those that have ended without an answer. */
static void look_after_recoveries(struct archive *archive)
{
    char reason[MESSAGE_REASON_SIZE];
    for (int i = 0; i < RECOVERY_PROCESSES; i++) {
        struct recovery_process *process = &archive->recoveries.list[i];
        struct message_recovered recovered = {.error = ECHILD};
        if (!recovery_process_has_ended(process))
            continue;
        memcpy(recovered.channel, process->channel, sizeof recovered.channel);
        if (!recovery_process_reap(process, recovered.reason))
            answer(archive, MESSAGE_RECOVERED, &recovered, sizeof recovered, NULL);
    }
    if (recovery_process_has_ended(&archive->sweep) &&
        !recovery_process_reap(&archive->sweep, reason))
        log_warning("looking after folders of channels that are gone failed: %s", reason);
}

/* Where nobody records, log_dir is another daemon's as soon as nothing is to be finished there:
 * only the process that does it has the lock, and whoever has it already is no trouble. Without
 * locks nobody would know of another one. */
static bool may_sweep(struct archive *archive)
{
    bool changed;
    if (archive->sweep.pid != 0)
        return false;
    if (strays_knows_channels())
        return hold_log_dir(archive, false) == 0;
    return !archive->lock.unlocked && strays_any(archive->log_dir) &&
           dir_lock_hold(&archive->lock, false, &changed) == 0 && !archive->lock.unlocked;
}

/* One that still runs is as good as this one; and one that can't begin now is asked for again. */
static void serve_sweep(struct archive *archive, const struct message_sweep *request)
{
    if (request->channel[0])
        strays_note_channel(request->channel);
    if (!request->last)
        return;
    if (may_sweep(archive) && recovery_process_fork(&archive->sweep, "") == 0) {
        strays_sweep(archive->log_dir);
        _exit(EXIT_SUCCESS);
    }
    if (!strays_knows_channels())
        dir_lock_release(&archive->lock);
    strays_forget_channels();
}

static void serve(struct archive *archive, const struct request *request)
{
    switch (request->type) {
    case MESSAGE_OPEN_SEGMENT:
        serve_open(archive, &request->open_segment);
        break;
    case MESSAGE_BEGIN_SEGMENT:
        if (hold_log_dir(archive, false) == 0)
            segments_begin(archive->log_dir, &request->begin_segment);
        break;
    case MESSAGE_SEAL:
        serve_seal(archive, &request->seal);
        break;
    case MESSAGE_RECOVER:
        serve_recover(archive, &request->recover);
        break;
    case MESSAGE_EXPIRE:
        if (hold_log_dir(archive, false) == 0)
            retention_apply(archive->log_dir, &request->expire);
        break;
    case MESSAGE_NUMBERS:
        serve_numbers(archive, &request->numbers);
        break;
    case MESSAGE_SYNC:
        serve_sync(archive, &request->sync);
        break;
    case MESSAGE_POSITION_SAVE:
        serve_position(archive, &request->position_save);
        break;
    case MESSAGE_SWEEP:
        serve_sweep(archive, &request->sweep);
        break;
    }
}

int archive_run(const struct message_assign *assign, uint64_t generation, int lock)
{
    struct archive archive = {
        .socket = MESSAGE_FD, .generation = generation, .log_dir = assign->log_dir};
    log_open("archive");
    dir_lock_init(&archive.lock, archive.log_dir, lock, assign->outer_mount);
    recovery_processes_init(&archive.recoveries);
    recovery_process_init(&archive.sweep);
    while (!archive.gone &&
           (archive.queue || recovery_processes_any(&archive.recoveries) || !archive.stopping)) {
        receive(&archive, !find_next(&archive));
        look_after_recoveries(&archive);
        struct request *request = archive.gone ? NULL : take_next(&archive);
        if (request)
            serve(&archive, request);
        else if (!archive.gone && archive.lock.fd >= 0)
            hold_log_dir(&archive, false);
        free(request);
    }
    while (archive.queue) {
        struct request *request = archive.queue;
        archive.queue = request->next;
        free(request);
    }
    recovery_processes_kill(&archive.recoveries);
    recovery_process_kill(&archive.sweep);
    return archive.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
