/* SPDX-License-Identifier: MIT */
/* Sends to fd 3. Called by the main loop. Must never wait for the supervisor, which waits for
 * nobody either. */
#include "worker/gate/gate_supervisor.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "common/message.h"

/* 0 or -EAGAIN; on anything else there is nobody to work for any more. */
static int send_it(struct gate *gate, enum message_type type, const void *payload, size_t size)
{
    int result = message_send(gate->supervisor, type, gate->generation, payload, size, NULL, 0);
    if (result < 0 && result != -EAGAIN)
        gate->leaving = gate->failed = true;
    return result;
}

static void set_events(struct gate *gate)
{
    uint32_t events = EPOLLIN | (gate->savings || gate->reporting.asked ? EPOLLOUT : 0);
    struct epoll_event event = {.events = events, .data.u64 = GATE_SOURCE_SUPERVISOR};
    if (events != gate->supervisor_events &&
        epoll_ctl(gate->epoll, EPOLL_CTL_MOD, gate->supervisor, &event) == 0)
        gate->supervisor_events = events;
}

bool gate_supervisor_report(struct gate *gate)
{
    if (send_it(gate, MESSAGE_GATE_REPORT, &gate->reporting.last, sizeof gate->reporting.last) < 0)
        return false;
    gate->reporting.asked = false;
    return true;
}

void gate_supervisor_flush(struct gate *gate)
{
    while (gate->savings) {
        struct gate_saving *saving = gate->savings;
        const size_t size =
            saving->type == MESSAGE_PUBLISH ? sizeof saving->publish : sizeof saving->save;
        if (send_it(gate, saving->type, &saving->save, size) < 0)
            break;
        gate->savings = saving->next;
        if (!gate->savings)
            gate->savings_end = &gate->savings;
        free(saving);
    }
    if (gate->reporting.asked)
        gate_supervisor_report(gate);
    set_events(gate);
}

static bool append(struct gate *gate, const struct gate_saving *what)
{
    struct gate_saving *saving = malloc(sizeof *saving);
    if (!saving)
        return false;
    *saving = *what;
    *gate->savings_end = saving;
    gate->savings_end = &saving->next;
    gate_supervisor_flush(gate);
    return true;
}

bool gate_supervisor_save(struct gate *gate, const struct message_position_save *save)
{
    const struct gate_saving saving = {.type = MESSAGE_POSITION_SAVE, .save = *save};
    return append(gate, &saving);
}

bool gate_supervisor_publish(struct gate *gate, const struct message_publish *publish)
{
    const struct gate_saving saving = {.type = MESSAGE_PUBLISH, .publish = *publish};
    return append(gate, &saving);
}

uint64_t gate_supervisor_turn(struct gate *gate, const struct gate_connection *connection)
{
    return gate->generation << 48 | (++gate->last_turn & UINT32_MAX) << 16 | connection->slot;
}

struct gate_connection *gate_supervisor_answered(struct gate *gate, uint64_t turn, bool publishes)
{
    uint32_t slot = (uint32_t)(turn & UINT16_MAX);
    struct gate_connection *connection = slot < GATE_SLOTS ? gate->connections[slot] : NULL;
    if (!connection || connection->turn == 0 || connection->turn != turn ||
        connection->turn_publishes != publishes)
        return NULL;
    connection->turn = 0;
    return connection;
}
