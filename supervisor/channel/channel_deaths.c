/* SPDX-License-Identifier: MIT */
/* Writes a worker's obituary when it was waited for, completes it when its successor is ready, and
 * adds what the takeover cost once that is known. Called by the state machine and by the regular
 * look. Whatever a damaged ring says, a cost is never more than what was received. */
#include "supervisor/channel/channel_deaths.h"

#include "common/log.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/child/obituary.h"
#include "supervisor/child/restart.h"

/* Received since the death, and by the kernel before its successor was ready. Receive times only
 * grow, but for a step of the clock; whatever a damaged ring says, the result is no more than what
 * was received. */
static uint64_t count_waited(const struct channel *channel)
{
    const struct channel_geometry *geometry = &channel->hold.geometry;
    uint64_t low = channel->takeover.from_seq, high = channel->ledger.seq_end;
    if (high - low > geometry->descriptor_count)
        high = low + geometry->descriptor_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const struct ring_descriptor *descriptor =
            channel_page_descriptor(channel->hold.page, geometry, middle);
        if (atomic_load_explicit(&descriptor->time_ns, memory_order_relaxed) <
            channel->takeover.ready_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low - channel->takeover.from_seq;
}

/* What waited is in the ring by now, and with the first datagram after them the kernel has told how
 * many it dropped. */
void channel_deaths_complete(struct channel *channel)
{
    struct obituary *obituary = obituary_newest(&channel->obituaries);
    if (!channel->takeover.cost_unknown || !obituary)
        return;
    channel->takeover.cost_unknown = false;
    if (!channel->hold.page || !channel_ledger_look(channel))
        return;
    uint64_t drops = channel->ledger.last_seen.value[COUNTER_kernel_dropped];
    obituary->kernel_dropped =
        drops > channel->takeover.drops_at_death ? drops - channel->takeover.drops_at_death : 0;
    if (channel->ledger.seq_end > channel->takeover.from_seq &&
        obituary->waited < count_waited(channel))
        obituary->waited = count_waited(channel);
    if (obituary->kernel_dropped)
        log_warning(
            "channel %s: the kernel dropped at least %llu datagrams while no worker ran; raise "
            "receive_buffer",
            channel->spec->name, (unsigned long long)obituary->kernel_dropped);
}

/* The obituary of the worker before this one learns what the takeover took. */
void channel_deaths_note_takeover(struct channel *channel, const struct message_ready *ready)
{
    struct obituary *obituary = obituary_newest(&channel->obituaries);
    if (!obituary || obituary->takeover_ns)
        return;
    obituary_note_takeover(&channel->obituaries, monotonic_now());
    obituary->waited = ready->recovered;
    channel->takeover.from_seq = channel->ledger.seq_end;
    channel->takeover.ready_ns = realtime_now_ns();
    channel->takeover.cost_unknown =
        true; /* until the successor has received what the kernel kept for it */
    log_info("channel %s: taken over within %.2f ms; %u datagrams saved from the batch in flight",
             channel->spec->name, (double)obituary->takeover_ns / 1e6, ready->recovered);
}

/* Backing off is for deaths that change nothing. One that led to a quarantine has removed its own
 * cause: deaths after it begin a row of their own. */
static void note_quarantine(struct channel *channel)
{
    uint64_t quarantined = channel->ledger.carried.value[COUNTER_quarantined] +
                           channel->ledger.last_seen.value[COUNTER_quarantined];
    if (quarantined > channel->takeover.quarantined_before)
        restart_forget(&channel->life.restart);
    channel->takeover.quarantined_before = quarantined;
}

static const struct obituary *write_obituary(struct channel *channel, const siginfo_t *end)
{
    const struct child *worker = channel->lent.worker;
    const struct death death = {.generation = worker->generation,
                                .pid = worker->pid,
                                .assigned = worker->assigned,
                                .hung_thread = channel->hang.aborted ? channel->hang.thread : NULL,
                                .end = end};
    struct channel_page *page = channel->hold.page;
    const struct obituary *obituary =
        obituary_write(&channel->obituaries, page ? &page->private.last_words : NULL, page, &death);
    channel->takeover.cause = obituary ? obituary->cause : DEATH_EXIT;
    if (obituary)
        channel->takeover.thread = obituary_thread(obituary);
    note_quarantine(channel);
    channel->takeover.drops_at_death = channel->ledger.last_seen.value[COUNTER_kernel_dropped];
    return obituary;
}

const struct obituary *channel_deaths_note(struct channel *channel, const siginfo_t *end)
{
    bool in_order = channel->life.state == CHANNEL_STOPPING && channel->lent.bye_received &&
                    end->si_code == CLD_EXITED;
    channel->takeover.thread = CHANNEL_THREAD_COUNT;
    if (!in_order && !channel->lent.ring_refused)
        return write_obituary(channel, end);
    /* Who refused a ring is not to blame, but its successor counts as a restart. */
    channel->takeover.cause = in_order ? DEATH_NONE : DEATH_EXIT;
    return NULL;
}
