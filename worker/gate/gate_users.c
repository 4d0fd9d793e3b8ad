/* SPDX-License-Identifier: MIT */
/* Counts per user. Called by the main loop. Nobody says when he has received a descriptor: those of
 * a connection count until its socket is seen to be empty, and who seems to have too many is looked
 * at once more before he is refused, now and then. */
#include "worker/gate/gate_users.h"

#include <assert.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

/* It costs a call for each of his connections. */
#define LOOK_NS (10 * NS_PER_MS)

struct gate_user *gate_users_find(struct gate *gate, uint64_t peer)
{
    for (uint32_t i = 0; i < gate->user_count; i++)
        if (gate->users[i].peer == peer)
            return &gate->users[i];
    return NULL;
}

void gate_users_count(struct gate *gate, uint64_t peer)
{
    struct gate_user *known = gate_users_find(gate, peer);
    if (!known) {
        known = &gate->users[gate->user_count++];
        *known = (struct gate_user){.peer = peer};
    }
    known->connections++;
}

/* Of who has a connection. */
static struct gate_user *user_of(struct gate *gate, const struct gate_connection *connection)
{
    struct gate_user *user = gate_users_find(gate, connection->peer);
    assert(user);
    return user;
}

void gate_users_uncount(struct gate *gate, const struct gate_connection *connection)
{
    struct gate_user *known = user_of(gate, connection);
    known->under_way -= connection->under_way;
    gate->counts[GATE_COUNTER_lent_under_way] -= connection->under_way;
    if (--known->connections == 0)
        *known = gate->users[--gate->user_count];
}

void gate_users_received(struct gate *gate, struct gate_connection *connection)
{
    if (connection->under_way == 0)
        return;
    user_of(gate, connection)->under_way -= connection->under_way;
    gate->counts[GATE_COUNTER_lent_under_way] -= connection->under_way;
    connection->under_way = 0;
}

void gate_users_lent(struct gate *gate, struct gate_connection *connection, uint32_t count)
{
    user_of(gate, connection)->under_way += count;
    gate->counts[GATE_COUNTER_lent_under_way] += count;
    connection->under_way += count;
}

static void look(struct gate *gate, uint64_t peer)
{
    for (struct gate_connection *it = gate->first; it; it = it->next) {
        int unread = 0;
        if (it->peer == peer && it->under_way && it->fd >= 0 &&
            ioctl(it->fd, SIOCOUTQ, &unread) == 0 && unread == 0)
            gate_users_received(gate, it);
    }
}

bool gate_users_may_lend(struct gate *gate, const struct gate_connection *connection)
{
    struct gate_user *user = user_of(gate, connection);
    if (user->under_way < gate->limits.lent_per_user)
        return true;
    const monotonic now = monotonic_now();
    if (monotonic_since(now, user->looked) >= LOOK_NS) {
        user->looked = now;
        look(gate, connection->peer);
    }
    return user->under_way < gate->limits.lent_per_user;
}
