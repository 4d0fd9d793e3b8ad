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
#include "common/read_stream.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_events.h"
#include "worker/gate/gate_peer.h"
#include "worker/gate/gate_penalty.h"
#include "worker/gate/gate_pool.h"

void gate_answer_end(struct gate *gate, struct gate_connection *connection)
{
    connection->ended = true;
    gate->any_ended = true;
}

/* After one at which everything had been read, so many small answers need not be looked at. */
#define UNLOOKED_MOST 3

/* The same that EPOLLOUT goes by: a quarter of the buffer. Over TCP no descriptors are under way,
 * and EPOLLOUT goes by something else. */
static bool has_room(struct gate_connection *connection)
{
    if (gate_peer_is_remote(connection))
        return true;
    int unread = 0;
    const bool is_known = ioctl(connection->fd, SIOCOUTQ, &unread) == 0;
    connection->unlooked = is_known && unread == 0 ? 0 : UNLOOKED_MOST;
    return !is_known || 4ll * unread <= connection->send_buffer;
}

/* For what is asked for by the hundred thousand a second. */
static bool has_room_for(struct gate_connection *connection, enum read_type type)
{
    if (type != READ_OBJECT_LENT || connection->unlooked >= UNLOOKED_MOST)
        return has_room(connection);
    connection->unlooked++;
    return true;
}

static void close_lent(struct gate *gate, const struct gate_connection *connection,
                       enum read_type type, int *fd)
{
    if (type == READ_SEGMENT_FOUND || type == READ_RANGE_LENT ||
        (type == READ_OBJECT_LENT && !connection->lends_local))
        gate_pool_close_fd(&gate->pool, fd); /* a file's: it may wait for a disk */
    else
        fd_close(fd);
}

static void keep(struct gate *gate, struct gate_connection *connection,
                 const struct gate_waiting *about, const void *payload, int *fd)
{
    struct gate_waiting *waiting = malloc(sizeof *waiting + about->size);
    if (!waiting) {
        gate_answer_end(gate, connection);
        return;
    }
    *waiting = *about;
    waiting->fd = fd ? fd_take(fd) : -1;
    memcpy(waiting->payload, payload, about->size);
    connection->waiting = waiting;
}

/* 0, -EAGAIN: the rest, or all of it, is to be kept; or another -errno. */
static int send_it(struct gate_connection *connection, struct gate_waiting *about,
                   const void *payload, int fd)
{
    const struct read_header header = {.magic = READ_MAGIC,
                                       .version = READ_VERSION,
                                       .type = (uint16_t)about->type,
                                       .request = about->request,
                                       .size = about->size};
    if (gate_peer_is_remote(connection))
        return read_stream_send(connection->fd, &header, payload, &about->sent);
    return read_packet_send(connection->fd, about->type, about->request, payload, about->size, fd);
}

void gate_answer(struct gate *gate, struct gate_connection *connection, enum read_type type,
                 uint32_t request, const void *payload, size_t size, int *fd)
{
    struct gate_waiting about = {.type = type, .request = request, .size = (uint32_t)size};
    int result = -EAGAIN;
    connection->busy = false;
    gate_count(gate, GATE_COUNTER_requests);
    if (!connection->ended && !connection->waiting && has_room_for(connection, type))
        result = send_it(connection, &about, payload, fd ? *fd : -1);
    if (result == -EAGAIN && !connection->ended)
        keep(gate, connection, &about, payload, fd);
    if (fd)
        close_lent(gate, connection, type, fd);
    if (result == -ETOOMANYREFS)
        gate_answer_refuse(gate, connection, request, EBUSY,
                           "too many descriptors are under way to readers");
    else if (result < 0 && result != -EAGAIN)
        gate_answer_end(gate, connection);
    connection->lending_failed = result == -ETOOMANYREFS;
    gate_events_set(gate, connection);
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

void gate_answer_part(struct gate *gate, struct gate_connection *connection, uint32_t request,
                      const char *reason)
{
    struct read_refused refused = {.error = EPROTO};
    struct gate_waiting about = {.type = READ_REFUSED, .request = request, .size = sizeof refused};
    if (connection->ended)
        return;
    snprintf(refused.reason, sizeof refused.reason, "%s", reason);
    gate_count(gate, GATE_COUNTER_refused);
    /* Over TCP it must not get into what is being sent. */
    if (!gate_peer_is_remote(connection) || (!connection->transfer && !connection->waiting))
        send_it(connection, &about, &refused, -1);
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
    if (has_room(connection))
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
    if (!has_room(connection))
        return;
    int result = send_it(connection, waiting, waiting->payload, waiting->fd);
    if (result == -EAGAIN)
        return;
    connection->waiting = NULL;
    close_lent(gate, connection, waiting->type, &waiting->fd);
    if (result == -ETOOMANYREFS)
        gate_answer_refuse(gate, connection, waiting->request, EBUSY,
                           "too many descriptors are under way to readers");
    else if (result < 0)
        gate_answer_end(gate, connection);
    connection->lending_failed |= result == -ETOOMANYREFS;
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
