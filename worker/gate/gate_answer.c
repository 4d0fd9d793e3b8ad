/* SPDX-License-Identifier: MIT */
/* Sends answers, and keeps the one that did not fit. Called by everything that serves readers, in
 * the main loop. Descriptors that are under way count against this process (and user) until they
 * are received, so a socket that nobody reads gets only a few. Must never wait, never keep more
 * than one answer of a connection, and never lose a descriptor. */
#include "worker/gate/gate_answer.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/fd.h"
#include "common/read_protocol.h"
#include "worker/gate/gate_activity.h"
#include "common/read_stream.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_events.h"
#include "worker/gate/gate_peer.h"
#include "worker/gate/gate_penalty.h"
#include "worker/gate/gate_pool.h"
#include "worker/gate/gate_users.h"

void gate_answer_end(struct gate *gate, struct gate_connection *connection)
{
    connection->ended = true;
    gate->any_ended = true;
}

/* After one at which everything had been read, so many small answers need not be looked at. */
#define UNLOOKED_MOST 3

/* The same that EPOLLOUT goes by: a quarter of the buffer. Over TCP no descriptors are under way,
 * and EPOLLOUT goes by something else. */
static bool has_room(struct gate *gate, struct gate_connection *connection)
{
    if (gate_peer_is_remote(connection))
        return true;
    int unread = 0;
    const bool is_known = ioctl(connection->fd, SIOCOUTQ, &unread) == 0;
    connection->unlooked = is_known && unread == 0 ? 0 : UNLOOKED_MOST;
    if (is_known && unread == 0)
        gate_users_received(gate, connection);
    return !is_known || 4ll * unread <= connection->send_buffer;
}

/* For what is asked for by the hundred thousand a second. */
static bool has_room_for(struct gate *gate, struct gate_connection *connection, enum read_type type)
{
    if (type != READ_OBJECT_LENT || connection->unlooked >= UNLOOKED_MOST)
        return has_room(gate, connection);
    connection->unlooked++;
    return true;
}

static void close_lent(struct gate *gate, const struct gate_connection *connection,
                       const struct gate_waiting *what, int *fds)
{
    for (uint32_t i = 0; i < what->fd_count; i++)
        if (what->type == READ_SEGMENT_FOUND || what->type == READ_RANGE_LENT ||
            (what->type == READ_OBJECT_LENT && !connection->lends_local))
            gate_pool_close_fd(&gate->pool, &fds[i]); /* a file's: it may wait for a disk */
        else
            fd_close(&fds[i]);
}

/* 0; -EAGAIN: the rest, or all of it, is to be kept; -EDQUOT: too many descriptors are under way to
 * its user; or another -errno. */
static int send_it(struct gate *gate, struct gate_connection *connection, struct gate_waiting *what,
                   const void *payload, const int *fds)
{
    const struct read_header about = {.magic = READ_MAGIC,
                                      .version = READ_VERSION,
                                      .type = (uint16_t)what->type,
                                      .request = what->request,
                                      .size = what->size};
    if (gate_peer_is_remote(connection))
        return read_stream_send(connection->fd, &about, payload, &what->sent);
    if (what->fd_count > 0 && !gate_users_may_lend(gate, connection))
        return -EDQUOT;
    int result = read_packet_send_fds(connection->fd, &about, payload, fds, what->fd_count);
    if (what->fd_count > 0 && result == 0)
        gate_users_lent(gate, connection, what->fd_count);
    return result;
}

static void keep(struct gate *gate, struct gate_connection *connection,
                 const struct gate_waiting *about, const void *payload, int *fds)
{
    struct gate_waiting *waiting = malloc(sizeof *waiting + about->size);
    if (!waiting) {
        gate_answer_end(gate, connection);
        return;
    }
    *waiting = *about;
    for (uint32_t i = 0; i < about->fd_count; i++)
        waiting->fds[i] = fd_take(&fds[i]);
    memcpy(waiting->payload, payload, about->size);
    connection->waiting = waiting;
}

static bool is_not_lent(int result)
{
    return result == -ETOOMANYREFS || result == -EDQUOT;
}

static void refuse_lending(struct gate *gate, struct gate_connection *connection, uint32_t request,
                           int result)
{
    char reason[READ_REASON_SIZE];
    snprintf(reason, sizeof reason,
             "lent_per_user = %u: so many descriptors are under way to this user: ask again",
             gate->limits.lent_per_user);
    gate_answer_refuse(gate, connection, request, EBUSY,
                       result == -EDQUOT ? reason
                                         : "too many descriptors are under way to readers");
}

/* The descriptors are taken over. */
static void answer(struct gate *gate, struct gate_connection *connection,
                   struct gate_waiting *about, const void *payload, int *fds)
{
    int result = -EAGAIN;
    connection->busy = false;
    if (!connection->ended && !connection->waiting && has_room_for(gate, connection, about->type))
        result = send_it(gate, connection, about, payload, fds);
    if (!is_not_lent(result)) /* that is another answer */
        gate_activity_answered(gate, connection, about->type);
    if (result == -EAGAIN && !connection->ended)
        keep(gate, connection, about, payload, fds);
    close_lent(gate, connection, about, fds);
    if (is_not_lent(result))
        refuse_lending(gate, connection, about->request, result);
    else if (result < 0 && result != -EAGAIN)
        gate_answer_end(gate, connection);
    connection->lending_failed = is_not_lent(result);
    gate_events_set(gate, connection);
}

void gate_answer(struct gate *gate, struct gate_connection *connection, enum read_type type,
                 uint32_t request, const void *payload, size_t size, int *fd)
{
    struct gate_waiting about = {.type = type,
                                 .request = request,
                                 .fd_count = fd && *fd >= 0 ? 1 : 0,
                                 .size = (uint32_t)size};
    answer(gate, connection, &about, payload, fd);
}

void gate_answer_published(struct gate *gate, struct gate_connection *connection, uint32_t request,
                           uint64_t id, int fds[READ_FDS_MAX])
{
    const struct read_published published = {id};
    struct gate_waiting about = {.type = READ_PUBLISHED,
                                 .request = request,
                                 .fd_count = READ_FDS_MAX,
                                 .size = sizeof published};
    answer(gate, connection, &about, &published, fds);
}

void gate_answer_refuse(struct gate *gate, struct gate_connection *connection, uint32_t request,
                        int error, const char *reason)
{
    struct read_refused refused = {.error = error};
    snprintf(refused.reason, sizeof refused.reason, "%s", reason);
    gate_answer(gate, connection, READ_REFUSED, request, &refused, sizeof refused, NULL);
}

void gate_answer_refuse_for(struct gate *gate, struct gate_connection *connection, uint32_t request,
                            int result, const struct gate_reason *reasons)
{
    const char *text = NULL;
    for (; reasons->error && !text; reasons++)
        if (reasons->error == -result)
            text = reasons->text;
    gate_answer_refuse(gate, connection, request, -result, text ? text : strerror(-result));
}

/* Over TCP it must not get into what is being sent. */
static void say_last(struct gate *gate, struct gate_connection *connection, uint32_t request,
                     const struct read_refused *refused)
{
    struct gate_waiting about = {.type = READ_REFUSED, .request = request, .size = sizeof *refused};
    if (!gate_peer_is_remote(connection) || (!connection->transfer && !connection->waiting))
        send_it(gate, connection, &about, refused, NULL);
}

void gate_answer_close(struct gate *gate, struct gate_connection *connection, int error,
                       const char *reason)
{
    struct read_refused refused = {.error = error};
    if (connection->ended)
        return;
    snprintf(refused.reason, sizeof refused.reason, "%s", reason);
    say_last(gate, connection, 0, &refused);
    connection->expelled = true; /* what it has sent meanwhile is not served any more */
    gate_answer_end(gate, connection);
}

void gate_answer_part(struct gate *gate, struct gate_connection *connection, uint32_t request,
                      const char *reason)
{
    struct read_refused refused = {.error = EPROTO};
    if (connection->ended)
        return;
    snprintf(refused.reason, sizeof refused.reason, "%s", reason);
    gate_count(gate, GATE_COUNTER_refused);
    say_last(gate, connection, request, &refused);
    connection->expelled = true;
    gate_answer_end(gate, connection);
}

void gate_answer_expel(struct gate *gate, struct gate_connection *connection, uint32_t request,
                       const char *reason)
{
    gate_penalty_give(gate, connection->peer, monotonic_now());
    gate_answer_part(gate, connection, request, reason);
}

void gate_answer_woken(struct gate *gate, struct gate_connection *connection)
{
    const struct gate_channel *channel = connection->channel;
    const struct read_woken woken = {channel ? gate_channels_ring(channel, connection->mode) : 0};
    int result = -EAGAIN;
    if (connection->ended)
        return;
    if (has_room(gate, connection))
        result = read_packet_send(connection->fd, READ_WOKEN, 0, &woken, sizeof woken, -1);
    connection->woken_due = result == -EAGAIN;
    if (result == 0)
        gate_count(gate, GATE_COUNTER_wakeups);
    else if (result != -EAGAIN)
        gate_answer_end(gate, connection);
    gate_events_set(gate, connection);
}

static void flush_waiting(struct gate *gate, struct gate_connection *connection)
{
    struct gate_waiting *waiting = connection->waiting;
    if (!has_room(gate, connection))
        return;
    int result = send_it(gate, connection, waiting, waiting->payload, waiting->fds);
    if (result == -EAGAIN)
        return;
    connection->waiting = NULL;
    close_lent(gate, connection, waiting, waiting->fds);
    if (is_not_lent(result))
        refuse_lending(gate, connection, waiting->request, result);
    else if (result < 0)
        gate_answer_end(gate, connection);
    connection->lending_failed |= is_not_lent(result);
    free(waiting);
}

void gate_answer_flush(struct gate *gate, struct gate_connection *connection)
{
    if (!connection->ended && connection->waiting)
        flush_waiting(gate, connection);
    if (!connection->ended && connection->woken_due)
        gate_answer_woken(gate, connection);
    gate_events_set(gate, connection);
}
