/* SPDX-License-Identifier: MIT */
/* Looks at all connections, but no more than eight times within one timeout, so that what it costs
 * doesn't grow with how often they do something; and not at all while there is nothing that a limit
 * is set for. Called by the main loop. Must never end who sleeps on purpose. */
#include "worker/gate/gate_timeouts.h"

#include <errno.h>
#include <stdio.h>

#include "common/read_protocol.h"
#include "common/units.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_claims.h"
#include "worker/gate/gate_requests.h"
#include "worker/gate/gate_sending.h"
#include "worker/gate/gate_work.h"

#define LOOKS_MOST 8

static void say(char reason[READ_REASON_SIZE], const char *key, uint64_t ns, const char *what)
{
    char text[32];
    units_print_duration(ns, text, sizeof text);
    snprintf(reason, READ_REASON_SIZE, "%s = %s: %s", key, text, what);
}

static int wait_until(monotonic look, monotonic now)
{
    return look.ns ? (int)(monotonic_since(look, now) / NS_PER_MS) + 1 : -1;
}

/* The next look, where the earliest is due then; ns 0: there is none. */
static monotonic next_look(uint64_t earliest, uint64_t timeout, monotonic now)
{
    const uint64_t soonest = now.ns + timeout / LOOKS_MOST;
    return (monotonic){earliest == UINT64_MAX ? 0 : earliest > soonest ? earliest : soonest};
}

/* ---- connections ---- */

/* Who is attached reads, and sleeps until there is more; who holds a position keeps it. */
static bool may_be_idle(const struct gate_connection *connection)
{
    return connection->attached || connection->claim.owner || connection->busy ||
           connection->waiting || connection->requests || connection->transfer;
}

static void look_for_idle(struct gate *gate, monotonic now)
{
    const uint64_t timeout = gate->limits.idle_timeout_ns;
    uint64_t earliest = UINT64_MAX;
    char reason[READ_REASON_SIZE];
    say(reason, "idle_timeout", timeout, "nothing was asked for so long: connect again");
    for (struct gate_connection *it = gate->first; it; it = it->next) {
        if (it->ended || may_be_idle(it))
            continue;
        const uint64_t due = it->active.ns + timeout;
        if (due <= now.ns) {
            gate_count(gate, GATE_COUNTER_ended_idle);
            gate_answer_close(gate, it, ETIMEDOUT, reason);
        } else if (due < earliest) {
            earliest = due;
        }
    }
    gate->idle_look = next_look(earliest, timeout, now);
}

/* ---- requests ---- */

static void expire(struct gate *gate, struct gate_connection *connection, const char *reason)
{
    const uint32_t request = connection->work->request;
    gate_count(gate, GATE_COUNTER_requests_expired);
    if (connection->transfer) {
        gate_sending_give_up(gate, connection, ETIMEDOUT);
    } else {
        gate_work_abandon(connection);
        gate_claims_release(&connection->taking);
        gate_answer_refuse(gate, connection, request, ETIMEDOUT, reason);
    }
    gate_requests_go_on(gate, connection);
}

static void look_for_late(struct gate *gate, monotonic now)
{
    const uint64_t timeout = gate->limits.request_timeout_ns;
    uint64_t earliest = UINT64_MAX;
    char reason[READ_REASON_SIZE];
    say(reason, "request_timeout", timeout, "the disk, or those before it, took longer");
    for (struct gate_connection *it = gate->first; it; it = it->next) {
        if (it->ended || !it->work)
            continue;
        if (it->work->since.ns + timeout <= now.ns)
            expire(gate, it, reason);
        /* The one that waited behind it has just begun. */
        if (!it->ended && it->work && it->work->since.ns + timeout < earliest)
            earliest = it->work->since.ns + timeout;
    }
    gate->request_look = next_look(earliest, timeout, now);
}

int gate_timeouts_look(struct gate *gate, monotonic now)
{
    if (gate->idle_look.ns && gate->idle_look.ns <= now.ns)
        look_for_idle(gate, now);
    if (gate->counts[GATE_COUNTER_waiting] == 0)
        gate->request_look = (monotonic){0};
    else if (gate->request_look.ns && gate->request_look.ns <= now.ns)
        look_for_late(gate, now);
    const int idle = wait_until(gate->idle_look, now);
    const int late = wait_until(gate->request_look, now);
    return idle < 0 || (late >= 0 && late < idle) ? late : idle;
}
