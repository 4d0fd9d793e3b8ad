/* SPDX-License-Identifier: MIT */
/* Called by all that begins, expels and ends connections, and by the main loop in each turn. Must
 * never keep a connection longer than the last thing that its user was expelled for. */
#include "worker/gate/gate_penalty.h"

#include <unistd.h>

#include "common/monotonic.h"
#include "worker/gate/gate_events.h"

#define PENALTY_NS (100 * NS_PER_MS)

/* NULL: none, or it is over. */
static struct gate_penalty *find(struct gate *gate, uint64_t peer, monotonic now)
{
    for (uint32_t i = 0; i < GATE_PENALTIES; i++)
        if (gate->penalties[i].peer == peer && gate->penalties[i].until.ns > now.ns)
            return &gate->penalties[i];
    return NULL;
}

/* One that is running is not made longer: it is for who connects again, and what connections that
 * were there before do meanwhile keeps nobody away. */
void gate_penalty_give(struct gate *gate, uint64_t peer, monotonic now)
{
    struct gate_penalty *place = &gate->penalties[0];
    if (peer == 0 || peer == geteuid() || find(gate, peer, now))
        return;
    for (uint32_t i = 1; i < GATE_PENALTIES; i++)
        if (gate->penalties[i].until.ns < place->until.ns) /* over, or has least left */
            place = &gate->penalties[i];
    *place = (struct gate_penalty){.peer = peer, .until = monotonic_add(now, PENALTY_NS)};
}

void gate_penalty_hold(struct gate *gate, struct gate_connection *connection, monotonic now)
{
    const struct gate_penalty *penalty = find(gate, connection->peer, now);
    if (!penalty)
        return;
    connection->held = true;
    if (gate->held_count++ == 0 || penalty->until.ns < gate->held_look.ns)
        gate->held_look = penalty->until;
    gate_events_set(gate, connection);
}

void gate_penalty_forget(struct gate *gate, struct gate_connection *connection)
{
    if (!connection->held)
        return;
    connection->held = false;
    gate->held_count--;
}

static void hear_those_who_may(struct gate *gate, monotonic now)
{
    gate->held_look = monotonic_add(now, PENALTY_NS);
    for (struct gate_connection *it = gate->first; it; it = it->next) {
        if (!it->held || it->ended)
            continue;
        const struct gate_penalty *penalty = find(gate, it->peer, now);
        if (!penalty) {
            gate_penalty_forget(gate, it);
            gate_events_set(gate, it);
        } else if (penalty->until.ns < gate->held_look.ns) {
            gate->held_look = penalty->until;
        }
    }
}

int gate_penalty_look(struct gate *gate, monotonic now)
{
    if (gate->held_count > 0 && gate->held_look.ns <= now.ns)
        hear_those_who_may(gate, now);
    if (gate->held_count == 0)
        return -1;
    return (int)(monotonic_since(gate->held_look, now) / NS_PER_MS) + 1;
}
