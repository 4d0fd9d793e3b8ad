/* SPDX-License-Identifier: MIT */
/* Has files sent by the copier's threads, turn by turn, and waits in epoll for those who read
 * slowly: so a slow one costs a pipe, and no thread. Called by the main loop, but for run_turn().
 * A connection's transfer is either a thread's or epoll's, and is freed by whoever has it last. */
#include "worker/gate/gate_sending.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/client/log_range.h"
#include "common/fd.h"
#include "common/units.h"
#include "worker/gate/gate_activity.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_events.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_peer.h"
#include "worker/gate/gate_pool.h"
#include "worker/gate/gate_range.h"
#include "worker/gate/gate_transfer.h"
#include "worker/gate/gate_work.h"

/* Of all descriptors that there may be, one of so many may be a transfer: each takes some. */
#define TRANSFER_SHARE 16
/* And of these, one of so many is one user's. */
#define USER_SHARE 4
struct turn_work {
    struct gate_work work; /* first */
    struct gate_transfer *transfer;
};

/* ---- the end ---- */

static void finish_range(struct gate *gate, struct gate_connection *connection, int result)
{
    struct gate_transfer *transfer = connection->transfer;
    const struct log_range_told *told = log_range_so_far(transfer->range->log);
    const struct read_range_sent sent = {.bytes = transfer->at,
                                         .records = told->records,
                                         .first_seq = told->first_seq,
                                         .last_seq = told->last_seq,
                                         .error = -result};
    const uint32_t request = transfer->request;
    gate_transfer_free(gate, &connection->transfer);
    gate_answer(gate, connection, READ_RANGE_SENT, request, &sent, sizeof sent, NULL);
}

/* Over TCP, in the midst of a chunk: whatever is said now would be taken for a part of it. */
static void break_off(struct gate *gate, struct gate_connection *connection)
{
    gate_transfer_free(gate, &connection->transfer);
    gate_answer_end(gate, connection);
}

static void finish(struct gate *gate, struct gate_connection *connection, int result)
{
    struct gate_transfer *transfer = connection->transfer;
    const struct read_object_sent sent = {.bytes = transfer->at - transfer->begin,
                                          .error = -result};
    const uint32_t request = transfer->request;
    gate_activity_gets(connection, sent.bytes);
    if (gate_transfer_is_within_chunk(transfer)) {
        break_off(gate, connection);
        return;
    }
    if (transfer->range) {
        finish_range(gate, connection, result);
        return;
    }
    gate_transfer_free(gate, &connection->transfer); /* which counts for all */
    gate_answer(gate, connection, READ_OBJECT_SENT, request, &sent, sizeof sent, NULL);
}

/* A thread has the transfer, and what it has come to is not to be looked at. Over TCP it may be in
 * the midst of a chunk: nothing can be said there, and it goes no further, either. */
static void give_up_thread(struct gate *gate, struct gate_connection *connection, int error)
{
    const struct read_object_sent sent = {.error = error};
    const struct read_range_sent range_sent = {.error = error};
    const uint32_t request = connection->transfer->request;
    const bool is_range = connection->transfer->range;
    gate_work_abandon(connection); /* forget() frees the transfer */
    connection->transfer = NULL;
    if (gate_peer_is_remote(connection)) {
        shutdown(connection->fd, SHUT_RDWR);
        gate_answer_end(gate, connection);
    } else if (is_range) {
        gate_answer(gate, connection, READ_RANGE_SENT, request, &range_sent, sizeof range_sent,
                    NULL);
    } else {
        gate_answer(gate, connection, READ_OBJECT_SENT, request, &sent, sizeof sent, NULL);
    }
}

void gate_sending_give_up(struct gate *gate, struct gate_connection *connection, int error)
{
    if (connection->work) {
        give_up_thread(gate, connection, error);
        return;
    }
    gate_transfer_leave_queue(gate, connection->transfer);
    finish(gate, connection, -error);
}

/* ---- waiting for room ---- */

static int watch(struct gate *gate, struct gate_connection *connection, int operation)
{
    struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT,
                                .data.u64 = GATE_EVENT_TRANSFER | gate_events_data(connection)};
    return epoll_ctl(gate->epoll, operation, connection->transfer->pipe, &event) < 0 ? -errno : 0;
}

static int wait_for_room(struct gate *gate, struct gate_connection *connection)
{
    struct gate_transfer *transfer = connection->transfer;
    int result = watch(gate, connection, EPOLL_CTL_MOD);
    if (result == -ENOENT)
        result = watch(gate, connection, EPOLL_CTL_ADD);
    if (result < 0)
        return result;
    transfer->since = monotonic_now();
    transfer->next = NULL;
    transfer->link = gate->transfers_end;
    *gate->transfers_end = transfer;
    gate->transfers_end = &transfer->next;
    return 0;
}

int gate_sending_look(struct gate *gate, void (*go_on)(struct gate *, struct gate_connection *))
{
    const uint64_t patience = gate->limits.request_timeout_ns;
    struct gate_transfer *oldest;
    while (patience && (oldest = gate->transfers)) {
        const uint64_t waited = monotonic_since(monotonic_now(), oldest->since);
        if (waited < patience)
            return (int)((patience - waited) / NS_PER_MS) + 1;
        struct gate_connection *owner = oldest->owner;
        gate_count(gate, GATE_COUNTER_requests_expired);
        gate_sending_give_up(gate, owner, ETIMEDOUT);
        go_on(gate, owner);
    }
    return -1;
}

/* ---- turns ---- */

static void run_turn(struct gate_job *job)
{
    struct turn_work *it = (struct turn_work *)job;
    it->work.result = gate_transfer_run(it->transfer);
}

static void submit(struct gate *gate, struct gate_connection *connection);

/* Its connection has ended, or the queue was full. */
static void forget(struct gate *gate, struct turn_work *it)
{
    struct gate_connection *connection = gate->connections[it->work.slot];
    if (connection && connection->number == it->work.number &&
        connection->transfer == it->transfer) {
        connection->transfer = NULL;
        if (gate_transfer_is_within_chunk(it->transfer))
            gate_answer_end(gate, connection); /* no refusal can follow */
    }
    gate_transfer_free(gate, &it->transfer);
}

static void finish_turn(struct gate *gate, struct gate_connection *connection,
                        struct gate_work *work)
{
    struct turn_work *it = (struct turn_work *)work;
    int result = work->result;
    if (!connection) {
        forget(gate, it);
        return;
    }
    if (result == 1) {
        submit(gate, connection);
        return;
    }
    if (result == -EAGAIN)
        result = wait_for_room(gate, connection);
    else if (result == 0)
        gate_transfer_close_pipe(connection->transfer);
    if (result < 0 || connection->transfer->at == connection->transfer->end)
        finish(gate, connection, result);
}

/* More may be committed by now. */
static void look_again(struct gate *gate, struct gate_range *range)
{
    const struct gate_channel *channel = gate_channels_find(gate, range->folder->channel);
    if (channel && channel->folder == range->folder)
        gate_channels_view(channel, &range->view);
}

/* Its own request, which is being answered, is what it is refused for. */
static void submit(struct gate *gate, struct gate_connection *connection)
{
    struct gate_transfer *transfer = connection->transfer;
    struct turn_work *it = gate_work_new(gate, connection, transfer->request, sizeof *it, NULL);
    if (!it) {
        gate_transfer_free(gate, &connection->transfer);
        return;
    }
    it->work.pool = &gate->copier;
    it->work.job.run = run_turn;
    it->work.job.place_busy = &transfer->folder->copying;
    it->work.finish = finish_turn;
    it->transfer = transfer;
    if (transfer->range)
        look_again(gate, transfer->range);
    gate_work_submit(gate, connection, &it->work);
}

void gate_sending_go_on(struct gate *gate, struct gate_connection *connection)
{
    struct gate_transfer *transfer = connection->transfer;
    if (!transfer || !transfer->link)
        return;
    gate_transfer_leave_queue(gate, transfer);
    submit(gate, connection);
}

void gate_sending_flushed(struct gate *gate, struct gate_connection *connection)
{
    struct gate_transfer *transfer = connection->transfer;
    if (!transfer || !transfer->is_unannounced || connection->waiting || connection->ended)
        return;
    if (connection->lending_failed) { /* that was answered instead */
        connection->busy = false;
        gate_transfer_free(gate, &connection->transfer);
        return;
    }
    transfer->is_unannounced = false;
    submit(gate, connection);
}

/* ---- the beginning ---- */

/* Of one that is being written, what lies in blocks that are done with. 0, or -EAGAIN: nobody can
 * say. */
static int find_end(const struct gate_channel *channel, const struct read_object_lent *lent,
                    uint64_t *ret)
{
    struct gate_view view;
    *ret = lent->about.size;
    if (!lent->about.is_open)
        return 0;
    gate_channels_view(channel, &view);
    if (!view.has_commit)
        return -EAGAIN;
    if (view.commit.segment_id == lent->id)
        *ret = view.commit.block_start;
    else if (view.commit.finished_id == lent->id)
        *ret = view.commit.finished_length;
    else
        return -EAGAIN;
    return *ret <= lent->about.size ? 0 : -EAGAIN;
}

struct user_transfers {
    uint32_t count, ranges;
    uint64_t bytes; /* of them as a whole: how much of it has gone is for threads to say */
};

/* A range's bytes are not known before its end: it counts as more than any limit. */
static struct user_transfers transfers_of(const struct gate *gate, uint64_t peer)
{
    struct user_transfers all = {0};
    for (const struct gate_connection *it = gate->first; it; it = it->next)
        if (it->transfer && it->peer == peer) {
            const uint64_t bytes = it->transfer->end - it->transfer->begin;
            all.count++;
            all.ranges += it->transfer->range != NULL;
            all.bytes = bytes > UINT64_MAX - all.bytes ? UINT64_MAX : all.bytes + bytes;
        }
    return all;
}

/* 0, or -errno: sending_per_user is -EDQUOT, queue -ENOBUFS. One file at a time is sent to
 * everybody, however large. */
static int may_begin(struct gate *gate, uint64_t peer, uint64_t bytes)
{
    const uint64_t most = gate->descriptors / TRANSFER_SHARE;
    const uint64_t bytes_most = gate->limits.sending_per_user;
    const struct user_transfers his = transfers_of(gate, peer);
    struct gate_pool_look look;
    if (gate->transfer_count >= most || his.count >= most / USER_SHARE + 1)
        return -EBUSY;
    if (bytes_most && his.count > 0 &&
        (bytes > bytes_most || his.bytes > bytes_most || his.bytes > bytes_most - bytes))
        return -EDQUOT;
    gate_pool_look(&gate->copier, &look);
    return look.queued >= gate->limits.queue ? -ENOBUFS : 0;
}

static int begin(struct gate *gate, struct gate_connection *connection,
                 const struct gate_transfer_wish *wish, int *file, int *ret_reading)
{
    int result = may_begin(gate, connection->peer, wish->end - wish->begin);
    if (result < 0)
        return result;
    result = gate_transfer_new(gate, wish, file, &connection->transfer, ret_reading);
    if (result < 0)
        return result;
    connection->transfer->owner = connection;
    connection->transfer->folder = gate_folder_keep(wish->folder);
    return 0;
}

static int socket_of(const struct gate_connection *connection)
{
    return gate_peer_is_remote(connection) ? connection->fd : -1;
}

/* The first answer; when it is out, the sending. */
static void announce(struct gate *gate, struct gate_connection *connection,
                     const struct gate_waiting *answer, const void *payload, int *reading)
{
    gate_answer(gate, connection, answer->type, answer->request, payload, answer->size, reading);
    if (connection->ended)
        return;
    if (connection->lending_failed) {
        gate_transfer_free(gate, &connection->transfer);
        return;
    }
    connection->busy = true; /* until it is sent */
    connection->transfer->is_unannounced = true;
    gate_sending_flushed(gate, connection);
}

static void refuse(struct gate *gate, struct gate_connection *connection, uint32_t request,
                   int result)
{
    static const struct gate_reason reasons[] = {
        {EAGAIN, "it is being written, and nobody says how far it may be read: ask again"},
        {EINVAL, "that lies beyond its end"},
        {EBUSY, "too many files are being sent just now: ask again"},
        {0, NULL},
    };
    char reason[READ_REASON_SIZE], size[32];
    if (result == -EDQUOT) {
        units_print_size(gate->limits.sending_per_user, size, sizeof size);
        snprintf(reason, sizeof reason,
                 "sending_per_user = %s: more is being sent to this user just now: ask again",
                 size);
        gate_answer_refuse(gate, connection, request, EBUSY, reason);
    } else if (result == -ENOBUFS) {
        snprintf(reason, sizeof reason, "queue = %u: so many files wait to be sent: ask again",
                 gate->limits.queue);
        gate_answer_refuse(gate, connection, request, EBUSY, reason);
    } else {
        gate_answer_refuse_for(gate, connection, request, result, reasons);
    }
}

void gate_sending_begin_range(struct gate *gate, struct gate_connection *connection,
                              uint32_t request, const struct read_range_lent *lent,
                              struct gate_range **range)
{
    const struct gate_waiting answer = {
        .type = READ_RANGE_LENT, .request = request, .size = sizeof *lent};
    const struct gate_transfer_wish wish = {.how = READ_COPY,
                                            .request = request,
                                            .end = UINT64_MAX,
                                            .folder = (*range)->folder,
                                            .socket = socket_of(connection)};
    int file = -1, reading = -1;
    int result = transfers_of(gate, connection->peer).ranges >= GATE_RANGES_MOST / USER_SHARE
                     ? -EBUSY
                     : begin(gate, connection, &wish, &file, &reading);
    if (result < 0) {
        gate_range_free(gate, range);
        refuse(gate, connection, request, result);
        return;
    }
    connection->transfer->range = *range;
    *range = NULL;
    announce(gate, connection, &answer, lent, &reading);
}

void gate_sending_begin(struct gate *gate, struct gate_connection *connection, uint32_t request,
                        const struct read_object *wanted, struct gate_hot_object *object, int *file)
{
    struct gate_channel *channel = gate_channels_find(gate, wanted->channel);
    struct read_object_lent *lent = &object->lent;
    uint64_t end = 0;
    int reading = -1;
    int result = channel ? find_end(channel, lent, &end) : -ENOENT;
    if (result == 0 && wanted->offset > end)
        result = -EINVAL;
    lent->offset = wanted->offset;
    lent->length = result < 0                                                ? 0
                   : wanted->length && wanted->length < end - wanted->offset ? wanted->length
                                                                             : end - wanted->offset;
    const struct gate_transfer_wish wish = {.how = (enum read_how)wanted->how,
                                            .request = request,
                                            .begin = lent->offset,
                                            .end = lent->offset + lent->length,
                                            .is_open = lent->about.is_open != 0,
                                            .folder = channel ? channel->folder : NULL,
                                            .socket = socket_of(connection)};
    const struct gate_waiting answer = {
        .type = READ_OBJECT_LENT, .request = request, .size = sizeof *lent};
    if (result == 0)
        result = begin(gate, connection, &wish, file, &reading);
    if (*file >= 0)
        gate_pool_close_fd(&gate->pool, file);
    if (result < 0) {
        refuse(gate, connection, request, result);
        return;
    }
    announce(gate, connection, &answer, lent, &reading);
}
