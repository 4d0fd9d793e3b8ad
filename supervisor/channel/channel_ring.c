/* SPDX-License-Identifier: MIT */
/* When a channel gets a fresh ring, and at which number that one begins. Called by the state
 * machine while no worker has the ring. Must never give a number again. */
#include "supervisor/channel/channel_ring.h"

#include <inttypes.h>

#include "common/channel_page.h"
#include "common/channel_page_outboxes.h"
#include "common/channel_spec.h"
#include "common/inflight_delivered.h"
#include "common/log.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/channel/channel_segments.h"
#include "supervisor/child/child.h"
#include "supervisor/hold/hold.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/hold/hold_sockets.h"

/* So few datagrams are recorded in the moment that a stop takes. */
#define RESHAPE_PENDING 4096

/* Nothing of what it holds is still to be sent or recorded. */
static bool is_idle(const struct channel *channel)
{
    const struct channel_spec *spec = channel->spec;
    const struct hold *hold = &channel->hold;
    struct relay_progress relay;
    struct commit_progress commit;
    struct decimate_progress decimate;
    struct outbox_progress outboxes;
    if (hold->old_ring >= 0 || !hold->page || !channel_page_read_relay(hold->page, &relay) ||
        !channel_page_read_commit(hold->page, &commit) ||
        !channel_page_read_decimate(hold->page, &decimate))
        return false;
    uint64_t published = atomic_load(&hold->page->public.published);
    return relay.next_seq == published && (!spec->record.enabled || commit.next_seq == published) &&
           (spec->decimate_count == 0 || decimate.next_seq == published) &&
           inflight_unpublished(hold->page, &hold->geometry) == 0 &&
           channel_page_read_outboxes(hold->page, &outboxes) && outboxes.seq <= published;
}

bool channel_ring_can_be_reshaped(const struct channel *channel)
{
    const struct channel_recording *recording = &channel->recording;
    return hold_is_outdated(&channel->hold, channel->spec) &&
           (recording->state == RECORDING_NONE ||
            (recording->state == RECORDING_OPEN && channel->hold.next >= 0 &&
             channel->ledger.last_pending < RESHAPE_PENDING));
}

bool channel_ring_wants_shape(struct channel *channel)
{
    if (channel->life.state != CHANNEL_RUNNING || !hold_is_outdated(&channel->hold, channel->spec))
        return false;
    channel_segments_wanted(
        channel); /* the worker would ask for it when half of this one is used */
    return channel_ring_can_be_reshaped(channel);
}

static void replace_outdated(struct channel *channel)
{
    log_notice("channel %s: what was in the ring of the former settings is dealt with; one as the "
               "settings say now is made",
               channel->spec->name);
    channel_segments_seal_all(channel);
    channel_ledger_retire_ring(channel);
}

void channel_ring_give_up(struct channel *channel)
{
    if (channel->lent.ring_refused) {
        channel_segments_seal_all(channel);
        channel_ledger_retire_ring(channel);
        channel->lent.ring_refused = false;
        channel->recording.renumber = false;
        channel->recording.restored = false;
        channel->recording.recovered = channel->recording.placed =
            false; /* the archive tells which numbers are in the log, nobody else can */
        if (channel->recording.state == RECORDING_OPENING ||
            channel->recording.state == RECORDING_RECOVERING)
            channel->recording.state = RECORDING_NONE; /* and is asked that first */
    } else if (channel->recording.renumber && channel->lent.bye_received) {
        uint64_t given = channel->ledger.seq_end;
        channel_ledger_retire_ring(channel);
        given = (channel->ledger.seq_end > given ? channel->ledger.seq_end : given) -
                channel->ledger.ring_start_seq;
        if (channel->recording.next_seq > channel->ledger.ring_start_seq)
            channel->ledger.seq_end = channel->recording.next_seq + given;
        log_notice("channel %s: %" PRIu64
                   " datagrams were relayed before the log was recovered and are not in it; "
                   "numbering goes on at %" PRIu64,
                   channel->spec->name, given, channel->ledger.seq_end);
        channel->recording.renumber = false;
        channel->hold.owes_gap =
            channel->hold.rx >= 0; /* what was relayed only is not in the log */
    } else if (hold_is_outdated(&channel->hold, channel->spec) && is_idle(channel)) {
        replace_outdated(channel);
    }
}

void channel_ring_refused(struct channel *channel, const char *reason)
{
    struct child *worker = channel->lent.worker;
    if (channel->lent.ring_was_fresh) {
        child_violated(worker, "it refused a fresh ring");
        return;
    }
    log_error("channel %s: %s can't trust the ring: %s; a fresh one is made", channel->spec->name,
              child_describe(worker), reason);
    channel->lent.ring_refused = true;
    if (channel->life.state !=
        CHANNEL_STOPPING) /* there it leaves by itself, or meets a deadline */
        child_kill(worker, SIGKILL);
}

int channel_ring_make(struct channel *channel, char *why, size_t why_size)
{
    struct channel_ledger *ledger = &channel->ledger;
    if (channel->hold.ring >= 0)
        return 0;
    channel->hold.offload_stays = false;
    hold_take_shape(&channel->hold, channel->spec);
    hold_sockets_follow_shape(&channel->hold, channel->spec);
    int error = hold_ring_make(&channel->hold, channel->spec, ledger->seq_end, why, why_size);
    if (error == 0) {
        ledger->ring_start_seq = ledger->seq_end;
        atomic_store(&channel->hold.page->private.unplaced,
                     channel->spec->record.enabled && !channel->recording.placed);
    }
    if (error == 0 && channel->hold.pages_reason[0])
        log_warning("channel %s: ring_pages = \"huge\" is configured, but: %s; the ring is made of "
                    "normal pages",
                    channel->spec->name, channel->hold.pages_reason);
    return error;
}
