/* SPDX-License-Identifier: MIT */
/* Lends the hold to a worker: takes a spare and sends it ASSIGN with every descriptor. Called by
 * the state machine, which owns the worker from then on. Must never lend a ring while another
 * worker, of this supervisor or of one before, still writes it. */
#include "supervisor/channel/channel_lend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/claim.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "supervisor/channel/channel_progress.h"
#include "supervisor/channel/channel_publishers.h"
#include "supervisor/channel/channel_reading.h"
#include "supervisor/child/child.h"
#include "supervisor/child/spares.h"

_Static_assert(3 + 1 + 2 + 2 + CHANNEL_DESTINATIONS_MAX <= MESSAGE_FDS_MAX,
               "one ASSIGN carries them all");

/* In the order that message.def states. */
static uint32_t collect_fds(const struct channel *channel, bool with_log, int fds[MESSAGE_FDS_MAX])
{
    const struct hold *hold = &channel->hold;
    uint32_t count = 0;
    fds[count++] = hold->rx;
    fds[count++] = hold->ring;
    fds[count++] = hold->private_part;
    if (hold->old_ring >= 0)
        fds[count++] = hold->old_ring;
    if (with_log && hold->segment >= 0)
        fds[count++] = hold->segment;
    if (with_log && hold->next >= 0)
        fds[count++] = hold->next;
    if (channel_reading_is_enabled(channel)) {
        fds[count++] = channel->host->gate->wake;
        fds[count++] = channel->host->gate->bell;
    }
    for (uint32_t i = 0; i < hold->destination_count; i++)
        fds[count++] = hold->destinations[i];
    return count;
}

/* Several signs of life in the time after which their absence counts, but no needless ones: a
 * thousand idle workers are to cost next to nothing. */
static uint32_t beat_ms(const struct settings *settings)
{
    uint64_t beat = settings->hang_timeout_ns / 3 / NS_PER_MS;
    return beat < BEAT_MS_MAX ? (uint32_t)beat : BEAT_MS_MAX;
}

static int send_assign(struct channel *channel)
{
    const struct hold *hold = &channel->hold;
    size_t spec_size = channel_spec_size(channel_spec_destination_count(channel->spec));
    struct message_assign *assign = calloc(1, sizeof *assign + spec_size);
    int fds[MESSAGE_FDS_MAX];
    /* A ring that is to be renumbered has numbers that the log has given to others. */
    bool with_log = !channel->recording.renumber;

    if (!assign)
        return -ENOMEM;
    assign->role = ROLE_CHANNEL;
    assign->last_death = channel->takeover.cause;
    assign->last_thread = channel->takeover.thread;
    assign->beat_ms = beat_ms(channel->host->settings);
    assign->fresh_ring = hold->ring_fresh;
    assign->has_old_ring = hold->old_ring >= 0;
    assign->has_segment = with_log && hold->segment >= 0;
    assign->has_next = with_log && hold->next >= 0;
    assign->has_wake = channel_reading_is_enabled(channel);
    assign->wake_index = assign->has_wake ? channel->reading.index : 0;
    assign->spec_size = (uint32_t)spec_size;
    if (assign->has_segment)
        assign->segment = hold->segment_grant;
    if (assign->has_next)
        assign->next = hold->next_grant;
    memcpy(assign + 1, channel->spec, spec_size);
    struct channel_spec *lent_spec = (struct channel_spec *)(assign + 1);
    lent_spec->ring_size = hold->shape.ring_size;
    lent_spec->max_datagram = hold->shape.max_datagram;
    lent_spec->receive_offload = hold->shape.receive_offload;
    lent_spec->ring_pages = hold->shape.ring_pages;
    uint32_t count = collect_fds(channel, with_log, fds);
    int error = child_send(channel->lent.worker, MESSAGE_ASSIGN, assign, sizeof *assign + spec_size,
                           fds, count);
    free(assign);
    return error;
}

/* This supervisor's own workers have been waited for. One of a supervisor that was killed may still
 * be at work, or be stopped; what it does is not needed, because its successor goes on from any
 * instruction. */
static void evict_stranger(const struct channel *channel)
{
    pid_t holder = channel->hold.ring_fresh ? 0 : claim_evict(channel->hold.private_part);
    if (holder == 0 && channel->hold.old_ring >= 0)
        holder = claim_evict(channel->hold.old_ring);
    if (holder > 0)
        log_warning(
            "channel %s: process %d, a worker of an earlier supervisor, still had the ring: killed",
            channel->spec->name, (int)holder);
    else if (holder < 0)
        log_error("channel %s: a worker of an earlier supervisor still has the ring and can't be "
                  "killed: %s; its "
                  "successor waits for its end",
                  channel->spec->name, strerror(-holder));
}

int channel_lend(struct channel *channel, const struct child_owner *owner, char *why,
                 size_t why_size)
{
    struct channel_lent *lent = &channel->lent;
    int error = 0;
    /* Also one that can't be started counts as a launch: trying again at once would never end. */
    channel->life.restart.launched = monotonic_now();
    lent->never_began = true;
    struct child *worker = spares_take(channel->host->spares, owner, &error);
    if (!worker) {
        snprintf(why, why_size, "can't start a worker: %s", strerror(-error));
        return error;
    }
    lent->worker = worker;
    lent->generation = worker->generation;
    lent->ready = lent->bye_received = lent->ring_was_fresh = false;
    channel->hang = (struct channel_hang){0};
    if (channel->takeover.cause != DEATH_NONE)
        channel->ledger.restarts++;
    evict_stranger(channel);
    channel_progress_mark(channel);
    error = send_assign(channel);
    if (error < 0) { /* a spare that died unseen, most likely: its end comes as an event, and the
                        policy decides */
        snprintf(why, why_size, "can't hand over to %s: %s", child_describe(worker),
                 strerror(-error));
        child_kill(worker, SIGKILL);
        return error;
    }
    lent->never_began = false;
    lent->ring_was_fresh = channel->hold.ring_fresh;
    channel->hold.ring_fresh = false;
    channel_publishers_lend(channel);
    return 0;
}

void channel_lend_ask_back(const struct channel *channel, bool seal)
{
    const struct message_stop stop = {.seal = seal};
    int error = child_send(channel->lent.worker, MESSAGE_STOP, &stop, sizeof stop, NULL, 0);
    if (error < 0 && error != -EPIPE)
        child_kill(channel->lent.worker, SIGTERM);
}

void channel_lend_take_back(struct channel *channel)
{
    channel->lent.worker = NULL;
    channel->lent.never_began = true;
    if (channel->takeover.cause != DEATH_NONE)
        channel->ledger.restarts--;
    channel->hold.ring_fresh |= channel->lent.ring_was_fresh;
}
