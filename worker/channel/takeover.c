/* SPDX-License-Identifier: MIT */
/* Taking over a channel: attach to the ring, decide whether it can be trusted, publish what the
 * kernel had delivered to the predecessor, and see whether a datagram is killing us. Runs before
 * any other thread exists. Must never touch a ring that another process may still be writing: the
 * claim comes first. */
#include "worker/channel/takeover.h"

#include <errno.h>
#include <string.h>

#include "common/channel_page.h"
#include "common/channel_page_check.h"
#include "common/channel_page_outboxes.h"
#include "common/channel_page_v1.h"
#include "common/channel_spec.h"
#include "common/claim.h"
#include "common/inflight.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "common/ring.h"
#include "worker/channel/beat.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/destination_places.h"
#include "worker/last_words.h"

/* Deaths at one place without progress before a consumer goes one datagram at a time; one more at a
 * single datagram puts that one in quarantine. Where nobody knows which thread it was, it takes
 * more to be sure. */
#define CAUTIOUS_AFTER 2
#define SURE_AFTER     6

/* Within the supervisor's deadline for READY. A worker of an earlier supervisor has been killed by
 * then. */
#define CLAIM_PATIENCE_NS (3 * NS_PER_S)

static const enum channel_thread thread_of[CONSUMER_COUNT] = {
    [CONSUMER_RELAY] = CHANNEL_THREAD_RECEIVER,
    [CONSUMER_RECORD] = CHANNEL_THREAD_RECORDER,
    [CONSUMER_DECIMATE] = CHANNEL_THREAD_DECIMATOR,
};

static const char *const consumer_names[CONSUMER_COUNT] = {"relay", "recorder", "decimator"};

static void quarantine(struct channel_state *channel, enum consumer consumer, uint64_t seq)
{
    struct ring_datagram datagram;
    if (!ring_peek(&channel->ring, seq, &datagram))
        return; /* overwritten: it can't hurt any more */
    if (datagram.flags & DATAGRAM_QUARANTINED)
        return;
    ring_set_flag(&channel->ring, seq, DATAGRAM_QUARANTINED);
    atomic_fetch_add(&channel->ring.page->private.quarantined, 1);
    log_warning("datagram %llu (%u bytes) killed the %s again and again; it is quarantined: "
                "recorded with its flag, "
                "not relayed, not decimated",
                (unsigned long long)seq, datagram.length, consumer_names[consumer]);
}

/* The datagram that it does next. The slots are sound: channel_page_check() has read them. */
static uint64_t consumer_next(const struct channel_page *page, enum consumer consumer)
{
    struct relay_progress relay = {0};
    struct commit_progress commit = {0};
    struct decimate_progress decimate = {0};
    channel_page_read_relay(page, &relay);
    channel_page_read_commit(page, &commit);
    channel_page_read_decimate(page, &decimate);
    return consumer == CONSUMER_RELAY    ? relay.next_seq
           : consumer == CONSUMER_RECORD ? commit.next_seq
                                         : decimate.next_seq;
}

/* Of its own fault, and of this consumer's thread as far as anybody knows. An exit says nothing
 * about its thread. */
static bool is_suspect(const struct channel_state *channel, enum consumer consumer)
{
    const struct message_assign *assign = &channel->inheritance->assign;
    bool own_fault = assign->last_death == DEATH_CRASH || assign->last_death == DEATH_HANG ||
                     assign->last_death == DEATH_EXIT;
    return own_fault && (assign->last_thread >= CHANNEL_THREAD_COUNT ||
                         assign->last_thread == (uint32_t)thread_of[consumer]);
}

/* Did the predecessor die of its own fault while this consumer was at work, at the same place as
 * before? */
static void judge_consumer(struct channel_state *channel, enum consumer consumer,
                           uint64_t published)
{
    struct channel_page *page = channel->ring.page;
    struct thread_beat *beat = &page->private.beats[thread_of[consumer]];
    struct consumer_trouble *trouble = &page->private.trouble[consumer];
    uint64_t first = atomic_load(&beat->work_first);
    uint64_t end = atomic_load(&beat->work_end);

    if (is_suspect(channel, consumer) && first < end && end <= published &&
        first >= page->public.start_seq) {
        uint32_t deaths =
            atomic_load(&trouble->seq) == first ? atomic_load(&trouble->deaths) + 1 : 1;
        uint64_t cautious_until = atomic_load(&trouble->seq_end);
        bool cautious = atomic_load(&trouble->cautious) == 1 && first < cautious_until;
        bool sure = channel->inheritance->assign.last_thread < CHANNEL_THREAD_COUNT
                        ? cautious || deaths > CAUTIOUS_AFTER
                        : deaths > SURE_AFTER;
        if (end == first + 1 && sure) {
            quarantine(channel, consumer, first);
            deaths = 0;
        }
        atomic_store(&trouble->seq, first);
        atomic_store(&trouble->deaths, deaths);
        if (deaths >= CAUTIOUS_AFTER || cautious) {
            atomic_store(&trouble->seq_end, end > cautious_until ? end : cautious_until);
            atomic_store(&trouble->cautious, 1);
        }
    }
    uint64_t until = atomic_load(&trouble->seq_end);
    if (atomic_load(&trouble->cautious) == 1 && consumer_next(page, consumer) < until &&
        until <= published) {
        channel->caution[consumer] = (struct caution){true, until};
        log_notice("%s goes one datagram at a time up to %llu", consumer_names[consumer],
                   (unsigned long long)channel->caution[consumer].until);
    }
}

/* From here on no other process writes this memory. The descriptor stays open as long as this
 * process lives: closing it would give up the claim. */
static int claim(int memfd)
{
    pid_t holder;
    int result = claim_take(memfd, CLAIM_PATIENCE_NS, &holder);
    if (result == -EBUSY)
        log_error("another process (%d) works on the ring and does not end; end it, or look at "
                  "what it waits for",
                  (int)holder);
    return result;
}

static int claim_memory(const struct inheritance *inheritance)
{
    int result = claim(inheritance->memory.private_part);
    if (result == 0 && inheritance->old_ring >= 0)
        result = claim(inheritance->old_ring);
    return result;
}

static int attach(struct channel_state *channel, const char **ret_what)
{
    struct inheritance *inheritance = channel->inheritance;
    int result = ring_attach(&channel->ring, &inheritance->memory, &inheritance->geometry,
                             (enum ring_mapping_wanted)channel->spec->mapping);
    if (result == -ENOTSUP)
        log_error("mapping = \"double\" is configured, but: %s; use \"auto\" or \"mirror\"",
                  channel->ring.data.reason);
    else if (result < 0)
        log_error("mapping the ring: %s", strerror(-result));
    *ret_what = "the ring can't be mapped";
    return result;
}

/* What a worker of an older version left. If the worker before this one died over it, it is done
 * again from the start. */
static int convert(struct channel_state *channel, const char **ret_what)
{
    const struct inheritance *inheritance = channel->inheritance;
    if (inheritance->old_ring < 0 ||
        atomic_load(&channel->ring.page->private.converted) == RING_CONVERTED)
        return 0;
    int result =
        channel_page_v1_convert(inheritance->old_ring, channel->spec, &channel->ring, ret_what);
    if (result == 0)
        log_info("took what an older version's ring still held into one of the present layout");
    else if (result != -EBADMSG)
        log_error("mapping the ring of an older version: %s", strerror(-result));
    return result;
}

static int settle(struct channel_state *channel, const char **ret_what)
{
    int result = ring_settle(&channel->ring, channel->inheritance->memory.ring);
    *ret_what = "what was being received into it can't be read";
    if (result < 0 && result != -EBADMSG)
        log_error("reading the ring: %s", strerror(-result));
    return result;
}

/* While the channel has no record section, the recorder's position stands still. What came then is
 * neither recorded nor lost; what waited to be recorded when the section was taken away is. */
static void begin_recording(struct channel_state *channel)
{
    struct channel_page *page = channel->ring.page;
    bool records = channel->spec->record.enabled != 0;
    bool recorded = atomic_load(&page->private.records) != 0;
    uint64_t published = atomic_load(&page->public.published);
    struct commit_progress commit;
    channel_page_read_commit(page, &commit); /* sound: channel_page_check() has read it */
    if (records != recorded && commit.next_seq != published) {
        if (recorded) {
            log_warning(
                "%llu datagrams were not recorded before recording was switched off; counted as "
                "record_lost",
                (unsigned long long)(published - commit.next_seq));
            commit.record_lost += published - commit.next_seq;
        }
        commit.next_seq = published;
        channel_page_write_commit(page, &commit);
    }
    atomic_store(&page->private.records, records);
}

int takeover_attach(struct channel_state *channel, const char **ret_what)
{
    struct inheritance *inheritance = channel->inheritance;
    int result = claim_memory(inheritance);
    if (result == 0)
        result = attach(channel, ret_what);
    if (result == 0)
        result = convert(channel, ret_what);
    if (result < 0)
        return result;
    struct channel_page *page = channel->ring.page;
    int taken = channel_page_publish_taken(page, &inheritance->geometry, ret_what);
    if (taken < 0)
        return taken;
    if (taken > 0)
        log_info("published %d datagrams that the worker before had taken out of outboxes", taken);
    result = channel_page_check(page, channel->ring.descriptors, &inheritance->geometry,
                                channel->spec->name, ret_what);
    if (result == 0)
        result = settle(channel, ret_what);
    if (result == 0)
        result = destination_places_make(channel, ret_what);
    if (result < 0)
        return result;
    begin_recording(channel);
    atomic_store(&page->private.generation, inheritance->generation);
    last_words_open(&page->private.last_words, inheritance->generation);

    ring_writer_open(&channel->writer, &channel->ring);
    channel->recovered = inflight_recover(&channel->writer);
    if (channel->recovered)
        log_info("took over %u datagrams that the kernel had given to the worker before",
                 channel->recovered);
    for (int consumer = 0; consumer < CONSUMER_COUNT; consumer++)
        judge_consumer(channel, (enum consumer)consumer, channel->writer.seq);
    beat_reset(page);
    return 0;
}
