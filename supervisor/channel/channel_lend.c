/* SPDX-License-Identifier: MIT */
/* A channel's dealings with its worker: lending it the hold, listening to it, and what is left when
 * it has died. Called by the state machine and by child.c's dispatcher. Must believe nothing that
 * the worker says or left in the ring without a check: it may have died in the middle of writing
 * it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/claim.h"
#include "common/fd.h"
#include "common/inflight.h"
#include "common/log.h"
#include "supervisor/channel/channel.h"
#include "supervisor/supervisor.h"

/* ---- the ledger ---- */

static void counters_add(struct counters *to, const struct counters *what)
{
    for (int i = 0; i < COUNTER_COUNT; i++)
        to->value[i] += what->value[i];
}

/* Bring last_seen up to date with the present ring. */
static bool look(struct channel *channel)
{
    struct counters now = {0};
    uint64_t pending;
    if (!channel->hold.page)
        return true;
    if (!channel_page_counters(channel->hold.page, channel->spec, &channel->hold.geometry, &now,
                               &pending))
        return false;
    channel->last_seen = now;
    channel->last_pending = pending;
    uint64_t end = channel->ring_start_seq + now.value[COUNTER_received];
    if (end > channel->seq_end && end <= INT64_MAX)
        channel->seq_end = end;
    return true;
}

bool channel_read_counters(struct channel *channel, struct counters *ret, uint64_t *ret_pending)
{
    bool readable = look(channel);
    *ret = channel->carried;
    counters_add(ret, &channel->last_seen);
    ret->value[COUNTER_restarts] = channel->restarts;
    *ret_pending = channel->last_pending;
    return readable;
}

/* What the kernel had handed to the last worker when it died, and no successor will publish. */
static void take_unpublished(struct channel *channel)
{
    if (!channel->hold.page)
        return;
    uint32_t count = inflight_unpublished(channel->hold.page, &channel->hold.geometry);
    channel->last_seen.value[COUNTER_received] += count;
    if (channel->spec->record.enabled)
        channel->last_pending += count;
}

void channel_retire_ring(struct channel *channel)
{
    struct commit_progress commit;
    if (channel->hold.page && !channel->ring_refused)
        look(channel);
    /* A refused ring is believed only where a check word vouches for it. */
    if (channel->hold.page && channel_page_read_commit(channel->hold.page, &commit) &&
        commit.next_seq > channel->seq_end && commit.next_seq <= INT64_MAX)
        channel->seq_end = commit.next_seq;
    take_unpublished(channel);
    if (channel->last_pending > 0)
        log_warning(
            "channel %s: %llu datagrams were received but not recorded; counted as record_lost",
            channel->spec->name, (unsigned long long)channel->last_pending);
    channel->last_seen.value[COUNTER_record_lost] += channel->last_pending;
    channel->last_seen.value[COUNTER_kernel_dropped] +=
        hold_untold_drops(&channel->hold, channel->last_seen.value[COUNTER_kernel_dropped]);
    counters_add(&channel->carried, &channel->last_seen);
    channel->last_seen = (struct counters){0};
    channel->last_pending = 0;
    hold_drop_ring(&channel->hold);
}

/* ---- handing over ---- */

/* In the order that message.def states. */
static uint32_t collect_fds(const struct hold *hold, int fds[MESSAGE_FDS_MAX])
{
    uint32_t count = 0;
    fds[count++] = hold->rx;
    fds[count++] = hold->ring;
    if (hold->log >= 0)
        fds[count++] = hold->log;
    if (hold->next >= 0)
        fds[count++] = hold->next;
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

    if (!assign)
        return -ENOMEM;
    assign->role = ROLE_CHANNEL;
    assign->last_death = channel->last_death_cause;
    assign->last_thread = channel->last_death_thread;
    assign->beat_ms = beat_ms(channel->supervisor->settings);
    assign->fresh_ring = hold->ring_fresh;
    assign->has_log = hold->log >= 0;
    assign->has_next = hold->next >= 0;
    assign->spec_size = (uint32_t)spec_size;
    if (assign->has_log)
        assign->log = hold->log_grant;
    if (assign->has_next)
        assign->next = hold->next_grant;
    memcpy(assign + 1, channel->spec, spec_size);
    uint32_t count = collect_fds(hold, fds);
    int error =
        child_send(channel->worker, MESSAGE_ASSIGN, assign, sizeof *assign + spec_size, fds, count);
    free(assign);
    return error;
}

/* This supervisor's own workers have been waited for. One of a supervisor that was killed may still
 * be at work, or be stopped; what it does is not needed, because its successor goes on from any
 * instruction. */
static void evict_stranger(const struct channel *channel)
{
    pid_t holder = channel->hold.ring_fresh ? 0 : claim_evict(channel->hold.ring);
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

int channel_assign(struct channel *channel, char *why, size_t why_size)
{
    int error = 0;
    struct child *worker = supervisor_take_child(channel->supervisor, &error);
    if (!worker) {
        snprintf(why, why_size, "can't start a worker: %s", strerror(-error));
        return error;
    }
    worker->kind = CHILD_CHANNEL;
    worker->channel = channel;
    worker->generation = ++channel->supervisor->next_generation;
    worker->assigned = monotonic_now();
    channel->worker = worker;
    channel->generation = worker->generation;
    channel->bye_said = false;
    channel->disk_warned = false;
    if (channel->last_death_cause != DEATH_NONE)
        channel->restarts++;
    evict_stranger(channel);
    error = send_assign(channel);
    if (error < 0) { /* a spare that died unseen, most likely: its end comes as an event, and the
                        policy decides */
        snprintf(why, why_size, "can't hand over to %s: %s", child_describe(worker),
                 strerror(-error));
        child_kill(worker, SIGKILL);
        return error;
    }
    channel->ring_was_fresh = channel->hold.ring_fresh;
    channel->hold.ring_fresh = false;
    return 0;
}

/* ---- what it says ---- */

static void handle_ready(struct channel *channel, const struct message_ready *ready)
{
    bool first = channel->last_death_cause == DEATH_NONE;
    char cause[200];

    if (channel->state == CHANNEL_STOPPING)
        return;
    if (channel->state != CHANNEL_STARTING) {
        child_violated(channel->worker, "READY twice");
        return;
    }
    if (ready->ring_refused) {
        if (channel->ring_was_fresh) {
            child_violated(channel->worker, "it refused a fresh ring");
            return;
        }
        log_error("channel %s: %s can't trust the ring: %s; a fresh one is made",
                  channel->spec->name, child_describe(channel->worker), ready->reason);
        channel->ring_refused = true;
        child_kill(channel->worker, SIGKILL);
        return;
    }
    snprintf(channel->ring_reason, sizeof channel->ring_reason, "%s", ready->reason);
    snprintf(cause, sizeof cause, "%s is ready", child_describe(channel->worker));
    if (!first)
        channel_note_takeover(channel, ready);
    channel->last_death_cause = DEATH_NONE;
    channel_handle(channel, CHANNEL_EVENT_READY, cause);
}

void channel_handle_message(struct channel *channel, struct message *message)
{
    switch (message->header.type) {
    case MESSAGE_READY:
        handle_ready(channel, message->ready);
        break;
    case MESSAGE_SEGMENT_WANTED:
        channel_log_wanted(channel);
        break;
    case MESSAGE_SEGMENT_DONE:
        channel_log_done(channel, message->segment_done);
        break;
    case MESSAGE_LOG_FAILED:
        channel_log_failed(channel, message->log_failed);
        break;
    case MESSAGE_BYE:
        channel->worker->said_bye = true;
        channel->bye_said = true;
        channel->bye = *message->bye;
        break;
    default:
        child_violated(channel->worker, "a message that is not a worker's to send");
        break;
    }
}

/* ---- its end ---- */

/* Received since the death, and by the kernel before its successor was ready. Receive times only
 * grow, but for a step of the clock; whatever a damaged ring says, the result is no more than what
 * was received. */
static uint64_t count_waited(const struct channel *channel)
{
    const struct channel_geometry *geometry = &channel->hold.geometry;
    const struct ring_descriptor *descriptors =
        channel_page_descriptors(channel->hold.page, geometry);
    uint64_t low = channel->takeover_seq, high = channel->seq_end;
    if (high - low > geometry->descriptor_count)
        high = low + geometry->descriptor_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const struct ring_descriptor *descriptor =
            &descriptors[middle % geometry->descriptor_count];
        if (atomic_load_explicit(&descriptor->time_ns, memory_order_relaxed) <
            channel->takeover_time_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low - channel->takeover_seq;
}

/* What waited is in the ring by now, and with the first datagram after them the kernel has told how
 * many it dropped. */
void channel_complete_obituary(struct channel *channel)
{
    struct obituary *obituary = obituary_newest(&channel->obituaries);
    if (!channel->cost_unknown || !obituary)
        return;
    channel->cost_unknown = false;
    if (!channel->hold.page || !look(channel))
        return;
    uint64_t drops = channel->last_seen.value[COUNTER_kernel_dropped];
    obituary->kernel_dropped =
        drops > channel->drops_at_death ? drops - channel->drops_at_death : 0;
    if (channel->seq_end > channel->takeover_seq && obituary->waited < count_waited(channel))
        obituary->waited = count_waited(channel);
    if (obituary->kernel_dropped)
        log_warning("channel %s: the kernel dropped %llu datagrams while no worker ran; raise "
                    "receive_buffer",
                    channel->spec->name, (unsigned long long)obituary->kernel_dropped);
}

/* The obituary of the worker before this one learns what the takeover took. */
void channel_note_takeover(struct channel *channel, const struct message_ready *ready)
{
    struct obituary *obituary = obituary_newest(&channel->obituaries);
    if (!obituary || obituary->takeover_ns)
        return;
    obituary_note_takeover(&channel->obituaries, monotonic_now());
    obituary->waited = ready->recovered;
    channel->takeover_seq = channel->seq_end;
    channel->takeover_time_ns = realtime_now_ns();
    channel->cost_unknown = true; /* until the successor has received what the kernel kept for it */
    log_info("channel %s: taken over within %.2f ms; %u datagrams saved from the batch in flight",
             channel->spec->name, (double)obituary->takeover_ns / 1e6, ready->recovered);
}

/* Backing off is for deaths that change nothing. One that led to a quarantine has removed its own
 * cause: deaths after it begin a row of their own. */
static void note_quarantine(struct channel *channel)
{
    uint64_t quarantined =
        channel->carried.value[COUNTER_quarantined] + channel->last_seen.value[COUNTER_quarantined];
    if (quarantined > channel->quarantined_before && channel->deaths_in_a_row > 1)
        channel->deaths_in_a_row = 1;
    channel->quarantined_before = quarantined;
}

void channel_worker_ended(struct channel *channel, const siginfo_t *end)
{
    struct child *worker = channel->worker;
    struct obituary *obituary = NULL;
    char how[64], cause[200];

    child_describe_end(end, how, sizeof how);
    snprintf(cause, sizeof cause, "%s %s", child_describe(worker), how);
    look(channel);
    channel_complete_obituary(channel);
    if (worker->said_bye && channel->state != CHANNEL_STOPPING) {
        log_error("channel %s: %s gave up its socket; a new one is opened", channel->spec->name,
                  child_describe(worker));
        fd_close(&channel->hold.rx);
    }
    channel->last_death_thread = CHANNEL_THREAD_COUNT;
    bool orderly =
        channel->state == CHANNEL_STOPPING && worker->said_bye && end->si_code == CLD_EXITED;
    if (orderly) {
        channel->last_death_cause = DEATH_NONE;
    } else if (channel->ring_refused) {
        channel->last_death_cause =
            DEATH_EXIT; /* no fault of its own, but the next one counts as a restart */
    } else {
        obituary = obituary_write(&channel->obituaries, channel->hold.page, worker, end);
        channel->last_death_cause = obituary ? obituary->cause : DEATH_EXIT;
        if (obituary)
            channel->last_death_thread = obituary_thread(obituary);
        note_quarantine(channel);
        channel->drops_at_death = channel->last_seen.value[COUNTER_kernel_dropped];
    }
    channel->worker = NULL;
    channel_handle(channel, CHANNEL_EVENT_DIED, cause);
    if (obituary) /* the successor first: datagrams wait for it */
        obituary_log(channel->spec->name, obituary);
}
