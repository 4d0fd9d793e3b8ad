/* SPDX-License-Identifier: MIT */
/* The syncer: the thread of a recording worker that waits for disks, so that the recorder hardly
 * ever has to. It populates the segment's pages ahead of the recorder, and every `sync` interval or
 * `sync_every` records makes what is committed durable: first the rest of the segments that the
 * recorder has left, which the archive may seal much later, then the one in use. It must never hold
 * the lock while it touches a file, nor say that something is durable while anything before it is
 * not. */
#include "worker/channel/syncer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_page.h"
#include "common/channel_page_refused.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "worker/channel/beat.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/intake.h"
#include "worker/channel/segment.h"
#include "worker/channel/thread.h"
#include "worker/channel/wakeup.h"
#include "worker/step.h"

#define LOOK_EVERY  NS_PER_S /* whether the file is still there; a map does not tell */
#define AHEAD_LEAST (64 * 1024)
#define AHEAD_MOST  (4 * 1024 * 1024)
#define BUSY_RATE   16e6
/* ... of a channel that lets datagrams wait anyhow, for longer than what a cheap call takes */
#define BUSY_RATE_PATIENT 2e6
#define PATIENT_DELAY_US  500
/* So many segments that were left wait to be synced: each is a map and a descriptor. */
#define LEFT_MOST 4

/* The thread's own. */
struct syncing {
    struct channel_state *channel;
    struct syncer *shared;
    uint64_t interval, every; /* ns and records after which to sync, whichever comes first; 0 = not
                                 by that */
    monotonic last_sync, last_asked, last_look;
    uint64_t asked_id, asked_offset;
    double busy_rate;
    enum segment_preference preference;
    struct commit_progress committed; /* from the page: the recorder's own copy is the recorder's */
    uint64_t synced_id, synced_offset;
    uint64_t synced_seq; /* datagrams < synced_seq were dealt with before the last sync */
    /* record_lost when this worker began. Where it grows, publishers are told of nothing durable
     * behind it: they would take what is lost for safe. */
    uint64_t lost_before;
};

/* Did the predecessor die between leaving a segment and making it durable? Then it is not with us:
 * the archive has it, and seals it when it comes to it. */
static bool doubts_earlier(const struct channel_page *page)
{
    struct commit_progress committed;
    uint64_t id = atomic_load(&page->public.durable_segment_id);
    if (!channel_page_read_commit(page, &committed) || committed.finished_id == 0)
        return false;
    if (id != 0 && id == committed.segment_id)
        return false; /* nothing in it is said to be durable before everything earlier is */
    return id != committed.finished_id ||
           atomic_load(&page->public.durable_offset) < committed.finished_length;
}

int syncer_open(struct channel_state *channel)
{
    struct syncer *syncer = aligned_alloc(_Alignof(struct syncer), sizeof *syncer);
    if (!syncer)
        return -ENOMEM;
    memset(syncer, 0, sizeof *syncer);
    channel->syncer = syncer;
    pthread_mutex_init(&syncer->lock, NULL);
    syncer->makes_durable =
        channel->spec->record.sync_ns > 0 || channel->spec->record.sync_every > 0;
    syncer->left_end = &syncer->left;
    syncer->doubts_earlier = syncer->makes_durable && doubts_earlier(channel->ring.page);
    atomic_store(&syncer->ahead, AHEAD_LEAST);
    atomic_store(&syncer->wakeup.wake_at, WAKEUP_NEVER);
    return 0;
}

void syncer_follow(struct syncer *syncer, struct segment *segment, uint64_t end)
{
    segment_keep(segment);
    pthread_mutex_lock(&syncer->lock);
    struct segment *before = syncer->segment;
    syncer->segment = segment;
    bool leaves = before && syncer->makes_durable;
    if (leaves) {
        before->left_at = end;
        *syncer->left_end = before;
        syncer->left_end = &before->behind;
        syncer->left_count++;
    }
    pthread_mutex_unlock(&syncer->lock);
    if (!leaves)
        segment_release(&before);
    /* Also for one that was taken over: it holds what the predecessor had not yet synced, and in a
     * silent channel no commit will tell of it. */
    wakeup_now(&syncer->wakeup);
}

void syncer_forget(struct channel_page *page, uint64_t segment_id)
{
    uint64_t expected = segment_id;
    atomic_compare_exchange_strong(&page->public.durable_segment_id, &expected, 0);
}

/* The oldest one that was left. It stays in the chain until it is durable. */
static struct segment *first_left(struct syncer *syncer)
{
    pthread_mutex_lock(&syncer->lock);
    struct segment *segment = syncer->left;
    pthread_mutex_unlock(&syncer->lock);
    return segment;
}

/* ... and the disk must have them, whatever interval and count say. */
static bool too_many_left(struct syncer *syncer)
{
    pthread_mutex_lock(&syncer->lock);
    bool too_many = syncer->left_count > LEFT_MOST;
    pthread_mutex_unlock(&syncer->lock);
    return too_many;
}

static void drop_first_left(struct syncer *syncer)
{
    pthread_mutex_lock(&syncer->lock);
    struct segment *segment = syncer->left;
    syncer->left = segment->behind;
    syncer->left_count--;
    if (!syncer->left)
        syncer->left_end = &syncer->left;
    pthread_mutex_unlock(&syncer->lock);
    segment_release(&segment);
}

static struct segment *keep_segment(struct syncer *syncer)
{
    pthread_mutex_lock(&syncer->lock);
    struct segment *segment = segment_keep(syncer->segment);
    pthread_mutex_unlock(&syncer->lock);
    return segment;
}

/* Below this many bytes per second no datagram shall wait for the syncer; above, it is the
 * processor that is short. Twice as much to change over, so that it does not happen all the time.
 */
static void choose(struct syncing *syncing, struct segment *segment, uint64_t since_ns)
{
    const struct commit_progress *committed = &syncing->committed;
    if (syncing->asked_id == committed->segment_id &&
        committed->write_offset > syncing->asked_offset && since_ns > 0) {
        double rate =
            (double)(committed->write_offset - syncing->asked_offset) * NS_PER_S / (double)since_ns;
        if (rate > 2 * syncing->busy_rate)
            syncing->preference = SEGMENT_CHEAP;
        else if (rate < syncing->busy_rate)
            syncing->preference = SEGMENT_SHORT_CALLS;
    }
    syncing->asked_id = committed->segment_id;
    syncing->asked_offset = committed->write_offset;
    segment_prefer(segment, syncing->preference);
}

/* The recorder asks when half of what was populated is used up. Being asked again soon means: look
 * further ahead. */
static void populate(struct syncing *syncing, struct segment *segment)
{
    uint64_t ahead = atomic_load(&syncing->shared->ahead);
    if (!atomic_exchange(&syncing->shared->populate_asked, 0))
        return;
    monotonic now = monotonic_now();
    uint64_t since = monotonic_since(now, syncing->last_asked);
    if (since < 100 * NS_PER_MS && ahead < AHEAD_MOST)
        ahead *= 2;
    else if (since > NS_PER_S && ahead > AHEAD_LEAST)
        ahead /= 2;
    syncing->last_asked = now;
    atomic_store(&syncing->shared->ahead, ahead);
    choose(syncing, segment, since);
    segment_populate(segment, syncing->committed.write_offset, ahead);
}

/* Before anything else: whoever comes after this worker is to know. */
static void note_refused(const struct syncing *syncing, const struct segment *segment)
{
    channel_page_note_refused(syncing->channel->ring.page, segment->grant.id);
    REACHED(syncing->channel->ring.page, disk_refused);
}

/* Nobody but the archive can save what it holds, and only while it is in memory. */
static void note_broken(struct syncing *syncing, const struct segment *segment, int error)
{
    struct syncer *syncer = syncing->shared;
    pthread_mutex_lock(&syncer->lock);
    uint32_t count = atomic_load(&syncer->broken_count);
    if (count < SYNCER_BROKEN_MAX) {
        syncer->broken[count] = (struct syncer_broken){
            .id = segment->grant.id, .length = segment->left_at, .error = error};
        atomic_store(&syncer->broken_count, count + 1);
    }
    pthread_mutex_unlock(&syncer->lock);
    wakeup_now(&syncing->channel->recorder_wakeup);
}

bool syncer_take_broken(struct syncer *syncer, struct syncer_broken *ret)
{
    if (atomic_load_explicit(&syncer->broken_count, memory_order_relaxed) == 0)
        return false;
    pthread_mutex_lock(&syncer->lock);
    uint32_t count = atomic_load(&syncer->broken_count) - 1;
    *ret = syncer->broken[count];
    atomic_store(&syncer->broken_count, count);
    pthread_mutex_unlock(&syncer->lock);
    return true;
}

/* Before anything that came after it is said to be durable. */
static void settle_earlier(struct syncing *syncing, struct segment *segment)
{
    if (!syncing->shared->doubts_earlier)
        return;
    int result = segment_sync_all(segment);
    if (result < 0)
        log_error("syncfs: %s; what the worker before recorded last in an earlier segment may be "
                  "missing after a power cut",
                  strerror(-result));
    syncing->shared->doubts_earlier = false;
}

/* Not as long as anything before it is in memory alone: a segment that the disk has refused is
 * until the archive has copied it. Then it is asked, and said, again. */
static bool say_durable(struct syncing *syncing, uint64_t segment_id, uint64_t offset)
{
    struct channel_page *page = syncing->channel->ring.page;
    if (channel_page_any_refused(page))
        return false;
    channel_page_write_durable(page, segment_id, offset);
    return true;
}

/* What the recorder has left. An error does not come again: the kernel forgets the pages, so that a
 * second call would only seem to succeed. */
static void sync_left(struct syncing *syncing)
{
    struct segment *segment;
    while ((segment = first_left(syncing->shared))) {
        settle_earlier(syncing, segment);
        bool failed_before = atomic_load(&segment->error);
        int result = segment_sync(segment, segment->left_at);
        if (result < 0 && !failed_before) {
            note_refused(syncing, segment);
            log_error("segment %s, which is full: fdatasync: %s; what is in it is to be copied",
                      segment->name, strerror(-result));
            note_broken(syncing, segment, -result);
        }
        if (result == 0 && !failed_before && segment->left_at > 0)
            say_durable(syncing, segment->grant.id, segment->left_at);
        drop_first_left(syncing->shared);
    }
}

/* What the slot says now is on disk when fdatasync returns. */
static void sync_segment(struct syncing *syncing, struct segment *segment)
{
    const struct commit_progress *committed = &syncing->committed;
    settle_earlier(syncing, segment);
    int result = segment_sync(segment, committed->write_offset);
    if (result < 0) {
        note_refused(syncing, segment);
        log_error("fdatasync: %s", strerror(-result));
        segment_fail(segment, -result, "fdatasync");
    } else if (!say_durable(syncing, committed->segment_id, committed->write_offset)) {
        return;
    } else if (syncing->channel->intake && committed->record_lost == syncing->lost_before) {
        intake_durable(syncing->channel->intake, committed->next_seq);
    }
    syncing->synced_id = committed->segment_id;
    syncing->synced_offset = committed->write_offset;
}

/* How much longer until it is time by the clock; 0: now. */
static uint64_t until_interval(const struct syncing *syncing)
{
    uint64_t age = monotonic_since(monotonic_now(), syncing->last_sync);
    if (!syncing->interval)
        return WAKEUP_NEVER;
    return age < syncing->interval ? syncing->interval - age : 0;
}

/* The number at which it is time by count. A successor does not know how many there were since its
 * predecessor's last sync: for it, there were enough. */
static uint64_t due_seq(const struct syncing *syncing)
{
    return syncing->every ? syncing->synced_seq + syncing->every : WAKEUP_NEVER;
}

/* For a successor, too: workers that die more often than it is time to sync would never. */
static void note_synced(struct syncing *syncing, monotonic when)
{
    syncing->last_sync = when;
    atomic_store_explicit(&syncing->channel->ring.page->private.synced_ns, when.ns,
                          memory_order_relaxed);
}

/* As long ago as the predecessor did; where nobody knows, the interval begins now. */
static void inherit_last_sync(struct syncing *syncing, monotonic now)
{
    uint64_t ns =
        atomic_load_explicit(&syncing->channel->ring.page->private.synced_ns, memory_order_relaxed);
    note_synced(syncing, ns > 0 && ns < now.ns ? (monotonic){ns} : now);
}

/* Up to `cursor` everything is committed. Returns whether something is that has yet to be made
 * durable. */
static bool attend(struct syncing *syncing, struct segment *segment, uint64_t cursor)
{
    struct commit_progress *committed = &syncing->committed;
    /* Before the slot: what is left after it was read is not the segment that the slot names. */
    bool dirty = first_left(syncing->shared) != NULL;
    bool known = segment && !atomic_load(&segment->error) &&
                 channel_page_read_commit(syncing->channel->ring.page, committed) &&
                 committed->segment_id == segment->grant.id;
    if (known) {
        populate(syncing, segment);
        segment_write_back(segment, committed->write_offset);
        dirty |=
            syncing->shared->makes_durable && (committed->segment_id != syncing->synced_id ||
                                               committed->write_offset != syncing->synced_offset);
    }
    if (dirty && (until_interval(syncing) == 0 || cursor >= due_seq(syncing) ||
                  too_many_left(syncing->shared))) {
        sync_left(syncing);
        if (known)
            sync_segment(syncing, segment);
        note_synced(syncing, monotonic_now());
        syncing->synced_seq = cursor;
        dirty = false;
    }
    if (known)
        segment_let_go(segment, committed->write_offset);
    return dirty;
}

static void look(struct syncing *syncing, struct segment *segment)
{
    if (monotonic_since(monotonic_now(), syncing->last_look) >= LOOK_EVERY) {
        segment_look(segment);
        syncing->last_look = monotonic_now();
    }
    if (atomic_load(&segment->error))
        wakeup_now(&syncing->channel->recorder_wakeup);
}

/* Dirty: the clock or the count ends the sleep. Clean: the next commit starts the clock, after one
 * more look at the file; then an idle channel sleeps. */
static void wait_for_work(struct syncing *syncing, uint32_t ticket, uint64_t cursor, bool dirty)
{
    bool makes_durable = syncing->shared->makes_durable;
    uint64_t timeout = LOOK_EVERY, at = makes_durable ? cursor + 1 : WAKEUP_NEVER;
    if (dirty) {
        uint64_t left = until_interval(syncing);
        at = due_seq(syncing);
        if (left != WAKEUP_NEVER)
            timeout = left ? left : 1;
    } else if (makes_durable && syncing->last_look.ns >= syncing->last_sync.ns) {
        timeout = 0;
    }
    beat_parked(syncing->channel, CHANNEL_THREAD_SYNCER);
    wakeup_wait(&syncing->shared->wakeup, ticket, &syncing->channel->recorder_cursor, at, timeout);
}

void *syncer_main(void *argument)
{
    struct channel_state *channel = argument;
    monotonic now = monotonic_now();
    struct syncing syncing = {.channel = channel,
                              .shared = channel->syncer,
                              .busy_rate = channel->spec->batch_delay_us >= PATIENT_DELAY_US
                                               ? BUSY_RATE_PATIENT
                                               : BUSY_RATE,
                              .preference = SEGMENT_SHORT_CALLS,
                              .interval = channel->spec->record.sync_ns,
                              .every = channel->spec->record.sync_every,
                              .last_asked = now,
                              .last_look = now};

    thread_begin(channel, CHANNEL_THREAD_SYNCER);
    thread_schedule_behind();
    if (channel_page_read_commit(channel->ring.page, &syncing.committed))
        syncing.lost_before = syncing.committed.record_lost;
    inherit_last_sync(&syncing, now);
    while (!atomic_load(&channel->recorder_done)) {
        uint32_t ticket = wakeup_ticket(&syncing.shared->wakeup);
        beat_disk(channel, CHANNEL_THREAD_SYNCER);
        /* Before looking: nothing that comes after it is overlooked. */
        uint64_t cursor = atomic_load(&channel->recorder_cursor);
        struct segment *segment = keep_segment(syncing.shared);
        bool dirty = attend(&syncing, segment, cursor);
        if (segment)
            look(&syncing, segment);
        segment_release(&segment);
        wait_for_work(&syncing, ticket, cursor, dirty);
    }
    beat_end(channel, CHANNEL_THREAD_SYNCER);
    return NULL;
}
