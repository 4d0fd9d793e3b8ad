/* SPDX-License-Identifier: MIT */
/* Wakes those who have caught up. Called by the main loop. The order is that of read_wake.h: arm
 * the channel's word, then look, so that a worker which commits in between either is seen or rings.
 * Must never let a reader sleep that has something to read, nor wake one over and over for nothing.
 */
#include "worker/gate/gate_waking.h"

#include <stddef.h>

#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_channels.h"

static struct read_wake_word *word_of(const struct gate *gate, const struct gate_channel *channel)
{
    return &gate->words[channel->wake_index];
}

/* What its readers sleep for. */
static uint32_t waited_for(const struct gate_channel *channel)
{
    return (channel->armed_for[READ_FOR_PUBLISHED] > 0 ? READ_WAKE_PUBLISHED : 0u) |
           (channel->armed_for[READ_FOR_COMMITTED] > 0 ? READ_WAKE_COMMITTED : 0u);
}

static void watch(struct gate *gate, struct gate_channel *channel)
{
    if (channel->link_watched)
        return;
    channel->next_watched = gate->watched;
    if (channel->next_watched)
        channel->next_watched->link_watched = &channel->next_watched;
    channel->link_watched = &gate->watched;
    gate->watched = channel;
}

static void unwatch(struct gate *gate, struct gate_channel *channel)
{
    if (!channel->link_watched)
        return;
    *channel->link_watched = channel->next_watched;
    if (channel->next_watched)
        channel->next_watched->link_watched = channel->link_watched;
    channel->link_watched = NULL;
    /* Nobody waits: the worker need not ring. */
    atomic_store_explicit(&word_of(gate, channel)->armed, 0, memory_order_relaxed);
}

void gate_waking_disarm(struct gate *gate, struct gate_connection *connection)
{
    if (!connection->armed)
        return;
    connection->armed = false;
    connection->channel->armed_for[connection->arm.what]--;
    *connection->link_armed = connection->next_armed;
    if (connection->next_armed)
        connection->next_armed->link_armed = connection->link_armed;
    if (!connection->channel->armed)
        unwatch(gate, connection->channel);
}

static void link_armed(struct gate *gate, struct gate_connection *connection)
{
    struct gate_channel *channel = connection->channel;
    connection->armed = true;
    channel->armed_for[connection->arm.what]++;
    connection->next_armed = channel->armed;
    if (connection->next_armed)
        connection->next_armed->link_armed = &connection->next_armed;
    connection->link_armed = &channel->armed;
    channel->armed = connection;
    watch(gate, channel);
}

/* A ring that is retired stays the channel's until there is another one: one WOKEN is enough to see
 * it by, and the next one comes with that other one. */
static bool is_due(struct gate_connection *connection, const struct gate_view *view)
{
    const struct read_arm *arm = &connection->arm;
    const uint64_t ring = gate_channels_ring(connection->channel, connection->mode);
    if (arm->ring != ring)
        return true;
    if (ring == 0)
        return false; /* there is none for him */
    if (view->retired && connection->told_retired != ring) {
        connection->told_retired = ring;
        return true;
    }
    if (arm->what == READ_FOR_PUBLISHED)
        return view->has_ring && view->published > arm->seq;
    return view->has_commit && view->commit.next_seq > arm->seq;
}

void gate_waking_arm(struct gate *gate, struct gate_connection *connection,
                     const struct read_arm *arm)
{
    struct gate_view view;
    if (connection->armed)
        gate_waking_disarm(gate, connection);
    connection->arm = *arm;
    if (!connection->channel) { /* it is gone */
        gate_answer_woken(gate, connection);
        return;
    }
    gate_channels_view(connection->channel, &view);
    if (!is_due(connection, &view)) {
        link_armed(gate, connection);
        read_wake_arm(word_of(gate, connection->channel), waited_for(connection->channel));
        gate_channels_view(connection->channel, &view);
        if (!is_due(connection, &view))
            return;
        gate_waking_disarm(gate, connection);
    }
    gate_answer_woken(gate, connection);
}

void gate_waking_look_at(struct gate *gate, struct gate_channel *channel)
{
    struct gate_view view;
    if (!channel->armed)
        return;
    read_wake_arm(word_of(gate, channel), waited_for(channel));
    gate_channels_view(channel, &view);
    for (struct gate_connection *next, *it = channel->armed; it; it = next) {
        next = it->next_armed;
        if (!is_due(it, &view))
            continue;
        gate_waking_disarm(gate, it);
        gate_answer_woken(gate, it);
    }
}

void gate_waking_look(struct gate *gate)
{
    for (struct gate_channel *next, *it = gate->watched; it; it = next) {
        next = it->next_watched;
        gate_waking_look_at(gate, it);
    }
}

void gate_waking_part(struct gate *gate, struct gate_channel *channel)
{
    for (struct gate_connection *it = gate->first; it; it = it->next) {
        if (it->channel != channel)
            continue;
        bool armed = it->armed;
        gate_waking_disarm(gate, it);
        it->channel = NULL;
        if (armed)
            gate_answer_woken(gate, it);
    }
}
