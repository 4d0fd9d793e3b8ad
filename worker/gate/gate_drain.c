/* SPDX-License-Identifier: MIT */
/* Called by the main loop once the supervisor has sent STOP. Whoever connects meanwhile waits at
 * the listening socket, which is the supervisor's, for the next gate. Must never keep the
 * supervisor waiting for longer than `grace`, nor end a file that is being sent as if it were
 * whole: what is cut off gets an error where there is room for it, and no OBJECT_SENT in any case.
 */
#include "worker/gate/gate_drain.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "common/units.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_requests.h"
#include "worker/gate/gate_sending.h"
#include "worker/gate/gate_work.h"

void gate_drain_begin(struct gate *gate)
{
    if (gate->draining)
        return;
    gate->draining = true;
    gate->drain_until = monotonic_add(monotonic_now(), gate->limits.grace_ns);
    epoll_ctl(gate->epoll, EPOLL_CTL_DEL, gate->listening, NULL);
    if (gate->tcp >= 0)
        epoll_ctl(gate->epoll, EPOLL_CTL_DEL, gate->tcp, NULL);
    gate->accepting = false;
    gate_requests_look(gate); /* those that wait for channels to be lent wait in vain */
}

static bool is_quiet(const struct gate_connection *connection)
{
    return !connection->busy && !connection->waiting && !connection->requests;
}

/* false: it is owed something. */
static bool end_if_quiet(struct gate *gate, struct gate_connection *connection)
{
    if (connection->ended)
        return true;
    if (is_quiet(connection))
        gate_requests_receive(gate, connection); /* each is refused */
    if (!connection->ended && is_quiet(connection))
        gate_answer_close(gate, connection, ESHUTDOWN, GATE_STOPS);
    return connection->ended;
}

/* What it is owed does not come any more. A thread may still have its file: that ends with this
 * process. */
static void cut_off(struct gate *gate, struct gate_connection *connection)
{
    char reason[READ_REASON_SIZE], grace[32];
    if (connection->ended)
        return;
    units_print_duration(gate->limits.grace_ns, grace, sizeof grace);
    snprintf(reason, sizeof reason, "grace = %s: " GATE_STOPS ", and this took longer", grace);
    if (connection->transfer && !connection->waiting) {
        gate_sending_give_up(gate, connection, ESHUTDOWN);
    } else if (connection->work) {
        const uint32_t request = connection->work->request;
        gate_work_abandon(connection);
        gate_answer_refuse(gate, connection, request, ESHUTDOWN, reason);
    }
    gate_answer_close(gate, connection, ESHUTDOWN, reason);
}

void gate_drain_look(struct gate *gate)
{
    bool all_ended = true;
    if (!gate->draining)
        return;
    for (struct gate_connection *it = gate->first; it; it = it->next)
        all_ended &= end_if_quiet(gate, it);
    gate->leaving |= all_ended;
    if (gate->leaving || monotonic_now().ns < gate->drain_until.ns)
        return;
    for (struct gate_connection *it = gate->first; it; it = it->next)
        cut_off(gate, it);
    gate->leaving = true;
}

int gate_drain_wait_ms(const struct gate *gate, monotonic now)
{
    return gate->draining ? (int)(monotonic_since(gate->drain_until, now) / NS_PER_MS) + 1 : -1;
}
