/* SPDX-License-Identifier: MIT */
/* Receives requests and serves each when the one before it is answered. Called by the main loop.
 * Whatever a reader sends, it takes a bounded part of a turn and a bounded number of requests is
 * kept of it; what is none of the protocol's ends its connection. */
#include "worker/gate/gate_requests.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/client/holdfast.h"
#include "common/read_protocol.h"
#include "worker/gate/gate_activity.h"
#include "common/read_stream.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_claims.h"
#include "worker/gate/gate_closing.h"
#include "worker/gate/gate_events.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_lookups.h"
#include "worker/gate/gate_objects.h"
#include "worker/gate/gate_peer.h"
#include "worker/gate/gate_positions.h"
#include "worker/gate/gate_publish.h"
#include "worker/gate/gate_ranges.h"
#include "worker/gate/gate_report.h"
#include "worker/gate/gate_waking.h"

/* Of one connection, before it is another one's turn. */
#define RECEIVES_MOST 8

/* ---- those that need no disk ---- */

/* The name is shown to people. */
static void serve_hello(struct gate *gate, struct gate_connection *connection, uint32_t request,
                        const struct read_hello *hello)
{
    const struct read_welcome welcome = {gate->generation};
    memset(connection->program, 0, sizeof connection->program);
    for (size_t i = 0; i + 1 < sizeof connection->program && hello->program[i]; i++) {
        char sign = hello->program[i];
        connection->program[i] = sign > ' ' && sign < 127 ? sign : '?';
    }
    gate_answer(gate, connection, READ_WELCOME, request, &welcome, sizeof welcome, NULL);
}

/* Another channel's arms and positions are not this one's. */
static void leave_channel(struct gate *gate, struct gate_connection *connection)
{
    gate_waking_disarm(gate, connection);
    gate_claims_release(&connection->claim);
    gate_folder_release(&connection->lent_folder);
    connection->has_told = false;
    connection->next_seq = 0;
    connection->told_retired = 0;
}

static void serve_attach(struct gate *gate, struct gate_connection *connection, uint32_t request,
                         const struct read_attach *attach)
{
    int fd;
    struct gate_channel *channel = gate_channels_find(gate, attach->channel);
    if (!channel) {
        gate_answer_refuse(gate, connection, request, ENOENT, "there is no such channel");
        return;
    }
    if (attach->mode < HF_OLD || attach->mode > HF_NEWEST) {
        gate_answer_refuse(gate, connection, request, EINVAL, "there is no such mode");
        return;
    }
    int result = gate_channels_open_memory(channel, attach->mode, &fd);
    if (result < 0) {
        gate_answer_refuse(gate, connection, request, -result, strerror(-result));
        return;
    }
    if (connection->channel != channel)
        leave_channel(gate, connection);
    connection->attached = true;
    connection->channel = channel;
    connection->mode = attach->mode;
    const struct read_attached attached = {.records = channel->records,
                                           .has_ring = fd >= 0,
                                           .ring = gate_channels_ring(channel, attach->mode)};
    gate_answer(gate, connection, READ_ATTACHED, request, &attached, sizeof attached, &fd);
}

static void serve_progress(struct gate *gate, struct gate_connection *connection,
                           const struct read_progress *progress)
{
    connection->has_told = true;
    connection->next_seq = progress->next_seq;
    gate->reporting.due = true;
}

static void serve_arm(struct gate *gate, struct gate_connection *connection, uint32_t request,
                      const struct read_arm *arm)
{
    if (!connection->attached ||
        (arm->what != READ_FOR_COMMITTED && arm->what != READ_FOR_PUBLISHED)) {
        gate_answer_expel(gate, connection, request, "armed for nothing that there is");
        return;
    }
    /* Who waits for more has all that is before it, and tells nothing else until there is. */
    serve_progress(gate, connection, &(struct read_progress){arm->seq});
    gate_waking_arm(gate, connection, arm);
}

/* ---- over TCP ---- */

/* Why that can't be had there; NULL: it can. */
static const char *why_not_remotely(unsigned type, const void *payload)
{
    static const char descriptors[] = "descriptors can't go over TCP: use copy or splice";
    switch (type) {
    case READ_HELLO:
    case READ_LIST:
    case READ_SEGMENTS:
        return NULL;
    case READ_OBJECT:
        return ((const struct read_object *)payload)->how == READ_FDPASS ? descriptors : NULL;
    case READ_RANGE:
        return ((const struct read_range *)payload)->how == READ_FDPASS ? descriptors : NULL;
    case READ_PUBLISH:
        return "descriptors can't go over TCP: publish on the daemon's own machine";
    case READ_ATTACH:
    case READ_FIND:
        return "descriptors can't go over TCP: fetch log files by copy or splice, and read those";
    default:
        return "over TCP there are only lists and log files: use the read socket for the rest";
    }
}

/* false: it was refused. */
static bool may_serve(struct gate *gate, struct gate_connection *connection, unsigned type,
                      uint32_t request, const void *payload)
{
    const char *reason = gate_peer_is_remote(connection) ? why_not_remotely(type, payload) : NULL;
    if (reason)
        gate_answer_refuse(gate, connection, request, EOPNOTSUPP, reason);
    return !reason;
}

/* ---- one after the other ---- */

/* It asks for channels, and the supervisor has not lent them all yet. */
static bool asks_for_more(const struct gate *gate, unsigned type, const void *payload)
{
    if (gate->all_lent)
        return false;
    if (type == READ_ATTACH)
        return !gate_channels_find(gate, ((const struct read_attach *)payload)->channel);
    if (type == READ_SEGMENTS)
        return !gate_channels_find(gate, ((const struct read_list_segments *)payload)->channel);
    if (type == READ_OBJECT)
        return !gate_channels_find(gate, ((const struct read_object *)payload)->channel);
    if (type == READ_RANGE)
        return !gate_channels_find(gate, ((const struct read_range *)payload)->channel);
    if (type == READ_PUBLISH)
        return !gate_channels_find(gate, ((const struct read_publish *)payload)->channel);
    return type == READ_LIST;
}

/* false: it was refused, or the connection has ended. What has no answer is none that is counted.
 */
static bool is_admitted(struct gate *gate, struct gate_connection *connection, unsigned type,
                        uint32_t request, const void *payload)
{
    const struct gate_limits *limits = &gate->limits;
    char reason[READ_REASON_SIZE];
    if (type == READ_ARM || type == READ_PROGRESS)
        return !connection->is_late;
    /* What is not lent by now is not lent to this gate any more, and there may well be such. */
    if (connection->is_late || (gate->draining && asks_for_more(gate, type, payload))) {
        gate_answer_refuse(gate, connection, request, ESHUTDOWN, GATE_STOPS);
        return false;
    }
    if (limits->requests_per_connection && connection->made > limits->requests_per_connection) {
        snprintf(reason, sizeof reason, "requests_per_connection = %" PRIu64 ": connect again",
                 limits->requests_per_connection);
        gate_count(gate, GATE_COUNTER_ended_idle);
        gate_answer_close(gate, connection, EDQUOT, reason);
        return false;
    }
    if (gate_activity_is_paced(gate, connection))
        return true;
    snprintf(reason, sizeof reason, "requests_per_second = %u: more than that: ask again",
             limits->requests_per_second);
    gate_answer_refuse(gate, connection, request, EBUSY, reason);
    return false;
}

static void serve(struct gate *gate, struct gate_connection *connection, unsigned type,
                  uint32_t request, const void *payload)
{
    gate_activity_begins(gate, connection, type, payload);
    if (!is_admitted(gate, connection, type, request, payload) ||
        !may_serve(gate, connection, type, request, payload))
        return;
    switch (type) {
    case READ_HELLO:
        serve_hello(gate, connection, request, payload);
        break;
    case READ_LIST:
        gate_lookups_list(gate, connection, request, payload);
        break;
    case READ_ATTACH:
        serve_attach(gate, connection, request, payload);
        break;
    case READ_FIND:
        gate_lookups_find(gate, connection, request, payload);
        break;
    case READ_ARM:
        serve_arm(gate, connection, request, payload);
        break;
    case READ_PROGRESS:
        serve_progress(gate, connection, payload);
        break;
    case READ_CLAIM:
        gate_positions_claim(gate, connection, request, payload);
        break;
    case READ_SAVE:
        gate_positions_save(gate, connection, request, payload);
        break;
    case READ_FORGET:
        gate_positions_forget(gate, connection, request, payload);
        break;
    case READ_POSITIONS:
        gate_positions_list(gate, connection, request, payload);
        break;
    case READ_SEGMENTS:
        gate_lookups_segments(gate, connection, request, payload);
        break;
    case READ_OBJECT:
        gate_objects_serve(gate, connection, request, payload);
        break;
    case READ_RANGE:
        gate_ranges_serve(gate, connection, request, payload);
        break;
    case READ_PUBLISH:
        gate_publish(gate, connection, request, payload);
        break;
    case READ_READERS:
        gate_report_readers(gate, connection, request,
                            ((const struct read_list_readers *)payload)->after);
        break;
    default:
        gate_answer_expel(gate, connection, request, "unknown type");
        break;
    }
}

/* At the end nobody waits for that any more. */
static bool is_early(const struct gate *gate, unsigned type, const void *payload)
{
    return !gate->draining && asks_for_more(gate, type, payload);
}

static bool can_serve(const struct gate *gate, const struct gate_connection *connection,
                      unsigned type, const void *payload)
{
    return !connection->ended && !connection->busy && !connection->waiting &&
           !is_early(gate, type, payload);
}

static void let_wait(struct gate *gate, struct gate_connection *connection,
                     const struct read_packet *packet)
{
    struct gate_request *request = malloc(sizeof *request + packet->header.size);
    if (!request) {
        gate_answer_end(gate, connection);
        return;
    }
    *request = (struct gate_request){.type = packet->header.type,
                                     .number = packet->header.request,
                                     .is_late = gate->draining,
                                     .since = monotonic_now()};
    memcpy(request->payload, packet->payload, packet->header.size);
    *connection->requests_end = request;
    connection->requests_end = &request->next;
    connection->request_count++;
}

/* A program that is older or newer than this is none that means harm. */
static bool is_of_another_version(const struct read_packet *packet)
{
    return packet->header.magic == READ_MAGIC && packet->header.version != READ_VERSION;
}

/* false: nothing more is to be had now. */
static bool receive_one(struct gate *gate, struct gate_connection *connection)
{
    const char *what;
    struct read_packet *packet = &gate->packet;
    const bool is_remote = gate_peer_is_remote(connection);
    if (!is_remote && gate_closing_has_descriptors(gate, connection->fd)) {
        gate_answer_expel(gate, connection, 0, "file descriptors that nobody asked for");
        return false;
    }
    int result =
        is_remote ? read_stream_receive(connection->fd, connection->stream, TO_GATE, packet, &what)
                  : read_packet_receive(connection->fd, TO_GATE, packet, &what);
    if (result == -EAGAIN)
        return false;
    if (result == -EMFILE || (result == -EBADMSG && is_of_another_version(packet))) {
        gate_answer_part(gate, connection, 0, what);
        return false;
    }
    if (result == -EBADMSG) {
        gate_answer_expel(gate, connection, 0, what);
        return false;
    }
    if (result <= 0) {
        gate_answer_end(gate, connection);
        return false;
    }
    if (!connection->requests &&
        can_serve(gate, connection, packet->header.type, packet->payload)) {
        connection->since = monotonic_now();
        connection->is_late = gate->draining;
        serve(gate, connection, packet->header.type, packet->header.request, packet->payload);
    } else
        let_wait(gate, connection, packet);
    read_packet_release(packet);
    return !connection->ended;
}

void gate_requests_go_on(struct gate *gate, struct gate_connection *connection)
{
    struct gate_request *request;
    while ((request = connection->requests) &&
           can_serve(gate, connection, request->type, request->payload)) {
        connection->requests = request->next;
        if (!connection->requests)
            connection->requests_end = &connection->requests;
        connection->request_count--;
        connection->since = request->since;
        connection->is_late = request->is_late;
        serve(gate, connection, request->type, request->number, request->payload);
        free(request);
    }
    gate_events_set(gate, connection);
}

void gate_requests_receive(struct gate *gate, struct gate_connection *connection)
{
    for (int i = 0; i < RECEIVES_MOST && connection->request_count < READ_PIPELINE_MAX - 1; i++)
        if (!receive_one(gate, connection))
            break;
    gate_events_set(gate, connection);
}

void gate_requests_look(struct gate *gate)
{
    for (struct gate_connection *it = gate->first; it; it = it->next)
        if (it->requests && !it->ended)
            gate_requests_go_on(gate, it);
}
