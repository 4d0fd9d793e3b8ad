/* SPDX-License-Identifier: MIT */
/* Called by all that begins, expels and ends connections, and by the main loop in each turn. Must
 * never keep a connection longer than the last thing that its user was expelled for. */
#include "worker/gate/gate_penalty.h"

#include <unistd.h>

#include "common/monotonic.h"
#include "worker/gate/gate_events.h"

#define PENALTY_NS       (100 * NS_PER_MS)
#define CONNECTIONS_MOST 16

/* NULL: none, or it is over. */
static struct gate_penalty *find(struct gate *gate, uid_t uid, monotonic now)
{
    for (uint32_t i = 0; i < GATE_PENALTIES; i++)
        if (gate->penalties[i].uid == uid && gate->penalties[i].until.ns > now.ns)
            return &gate->penalties[i];
    return NULL;
}

void gate_penalty_give(struct gate *gate, uid_t uid, monotonic now)
{
    struct gate_penalty *place = &gate->penalties[0];
    if (uid == 0 || uid == geteuid())
        return;
    for (uint32_t i = 0; i < GATE_PENALTIES; i++) {
        struct gate_penalty *it = &gate->penalties[i];
        if (it->until.ns > 0 && it->uid == uid) {
            place = it;
            break;
        }
        if (it->until.ns < place->until.ns) /* free, or the one that has least left */
            place = it;
    }
    *place = (struct gate_penalty){.uid = uid, .until = monotonic_add(now, PENALTY_NS)};
}

bool gate_penalty_is_too_many(struct gate *gate, uid_t uid, monotonic now)
{
    struct gate_penalty *penalty = find(gate, uid, now);
    return penalty && penalty->connections++ >= CONNECTIONS_MOST;
}

void gate_penalty_hold(struct gate *gate, struct gate_connection *connection, monotonic now)
{
    if (!find(gate, connection->uid, now))
        return;
    connection->held = true;
    gate->held_count++;
    gate_events_set(gate, connection);
}

void gate_penalty_forget(struct gate *gate, struct gate_connection *connection)
{
    if (!connection->held)
        return;
    connection->held = false;
    gate->held_count--;
}

int gate_penalty_look(struct gate *gate, monotonic now)
{
    if (gate->held_count == 0)
        return -1;
    uint64_t next = PENALTY_NS;
    for (struct gate_connection *it = gate->first; it; it = it->next) {
        if (!it->held || it->ended)
            continue;
        const struct gate_penalty *penalty = find(gate, it->uid, now);
        if (!penalty) {
            gate_penalty_forget(gate, it);
            gate_events_set(gate, it);
        } else if (penalty->until.ns - now.ns < next) {
            next = penalty->until.ns - now.ns;
        }
    }
    return gate->held_count > 0 ? (int)(next / NS_PER_MS) + 1 : -1;
}
