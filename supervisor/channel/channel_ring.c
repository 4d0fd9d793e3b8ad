/* SPDX-License-Identifier: MIT */
/* When a channel gets a fresh ring, and at which number that one begins. Called by the state
 * machine while no worker has the ring. Must never give a number again. */
#include "supervisor/channel/channel_ring.h"

#include <inttypes.h>

#include "common/log.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/channel/channel_recording.h"
#include "supervisor/child/child.h"
#include "supervisor/hold/hold_ring.h"

void channel_ring_give_up(struct channel *channel)
{
    if (channel->lent.ring_refused) {
        channel_recording_seal_all(channel);
        channel_ledger_retire_ring(channel);
        channel->lent.ring_refused = false;
        channel->recording.renumber = false;
        channel->recording.restored = false;
        channel->recording.recovered =
            false; /* the archive tells which numbers are in the log, nobody else can */
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
    child_kill(worker, SIGKILL);
}

int channel_ring_make(struct channel *channel, char *why, size_t why_size)
{
    struct channel_ledger *ledger = &channel->ledger;
    if (channel->hold.ring >= 0)
        return 0;
    int error = hold_ring_make(&channel->hold, channel->spec, ledger->seq_end, why, why_size);
    if (error == 0)
        ledger->ring_start_seq = ledger->seq_end;
    return error;
}
