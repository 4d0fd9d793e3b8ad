/* SPDX-License-Identifier: MIT */
/* Tells epoll what matters. Called by all that serves connections. An event that is older than the
 * connection in its slot must never be taken for that one's. */
#include "worker/gate/gate_events.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>

uint64_t gate_events_data(const struct gate_connection *connection)
{
    return connection->number << 32 | (connection->slot + GATE_SOURCE_CONNECTIONS);
}

int gate_events_begin(struct gate *gate, struct gate_connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = gate_events_data(connection)};
    connection->events = EPOLLIN;
    return epoll_ctl(gate->epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0 ? -errno : 0;
}

void gate_events_set(struct gate *gate, struct gate_connection *connection)
{
    unsigned unanswered =
        connection->request_count + (connection->busy || connection->waiting ? 1 : 0);
    uint32_t events = (unanswered < READ_PIPELINE_MAX && !connection->held ? EPOLLIN : 0) |
                      (connection->waiting || connection->woken_due ? EPOLLOUT : 0);
    struct epoll_event event = {.events = events, .data.u64 = gate_events_data(connection)};
    if (!connection->ended && events != connection->events &&
        epoll_ctl(gate->epoll, EPOLL_CTL_MOD, connection->fd, &event) == 0)
        connection->events = events;
}

struct gate_connection *gate_events_connection(struct gate *gate, uint64_t data)
{
    uint32_t slot = (uint32_t)data - GATE_SOURCE_CONNECTIONS;
    struct gate_connection *connection = slot < GATE_SLOTS ? gate->connections[slot] : NULL;
    return connection && gate_events_data(connection) == data && !connection->ended ? connection
                                                                                    : NULL;
}
