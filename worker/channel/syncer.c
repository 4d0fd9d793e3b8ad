/* SPDX-License-Identifier: MIT */
/* The syncer: the thread of a recording worker that waits for disks, so that no other has to. It
 * populates the segment's pages ahead of the recorder, and every `sync` interval makes what is
 * committed durable. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/channel/recorder.h"
#include "worker/last_words.h"

#define LOOK_EVERY  NS_PER_S /* whether the file is still there; a map does not tell */
#define AHEAD_LEAST (64 * 1024)
#define AHEAD_MOST  (4 * 1024 * 1024)

static struct segment *keep_current(struct recorder *recorder)
{
    pthread_mutex_lock(&recorder->lock);
    struct segment *segment = segment_keep(recorder->current);
    pthread_mutex_unlock(&recorder->lock);
    return segment;
}

/* The recorder asks when half of what was populated is used up. Being asked again soon means: look
 * further ahead. */
static void populate(struct recorder *recorder, struct segment *segment, monotonic *last_asked)
{
    uint64_t ahead = atomic_load(&recorder->ahead);
    struct commit_progress committed;
    if (!atomic_exchange(&recorder->populate_asked, 0))
        return;
    monotonic now = monotonic_now();
    if (monotonic_since(now, *last_asked) < 100 * NS_PER_MS && ahead < AHEAD_MOST)
        ahead *= 2;
    else if (monotonic_since(now, *last_asked) > NS_PER_S && ahead > AHEAD_LEAST)
        ahead /= 2;
    *last_asked = now;
    atomic_store(&recorder->ahead, ahead);
    if (channel_page_read_commit(recorder->worker->ring.page, &committed) &&
        committed.segment_id == segment->grant.id)
        segment_populate(segment, committed.write_offset, ahead);
}

/* What the slot says now is on disk when fdatasync returns. */
static void sync_segment(struct recorder *recorder, struct segment *segment,
                         const struct commit_progress *committed)
{
    struct channel_page *page = recorder->worker->ring.page;
    if (fdatasync(segment->fd) < 0) {
        int error = errno;
        log_error("fdatasync: %s", strerror(error));
        segment_fail(segment, error, "fdatasync");
        return;
    }
    /* Two words: a reader takes the offset only if the id is the same before and after. */
    atomic_store(&page->durable_segment_id, 0);
    atomic_store(&page->durable_offset, committed->write_offset);
    atomic_store(&page->durable_segment_id, committed->segment_id);
}

void *syncer_main(void *argument)
{
    struct channel_worker *worker = argument;
    struct recorder *recorder = worker->recorder;
    uint64_t interval = worker->spec->record.sync_ns;
    monotonic last_sync = monotonic_now(), last_asked = last_sync, last_look = last_sync;
    struct commit_progress committed = {
        0}; /* from the page only: the recorder's own copy is the recorder's */
    uint64_t synced_id = 0, synced_offset = 0;

    last_words_thread(CHANNEL_THREAD_SYNCER);
    schedule_behind();
    atomic_store(&worker->ring.page->beats[CHANNEL_THREAD_SYNCER].thread_id, (uint32_t)gettid());
    while (!atomic_load(&worker->recorder_done)) {
        uint32_t ticket = wakeup_ticket(&recorder->syncer_wakeup);
        beat_disk(worker, CHANNEL_THREAD_SYNCER);
        struct segment *segment = keep_current(recorder);
        uint64_t cursor = atomic_load(
            &worker->recorder_cursor); /* before looking: nothing after it is overlooked */
        bool dirty = false;
        if (segment) {
            populate(recorder, segment, &last_asked);
            dirty = interval && !atomic_load(&segment->error) &&
                    channel_page_read_commit(worker->ring.page, &committed) &&
                    committed.segment_id == segment->grant.id &&
                    (committed.segment_id != synced_id || committed.write_offset != synced_offset);
            if (dirty && monotonic_since(monotonic_now(), last_sync) >= interval) {
                sync_segment(recorder, segment, &committed);
                last_sync = monotonic_now();
                synced_id = committed.segment_id;
                synced_offset = committed.write_offset;
                dirty = false;
            }
            if (committed.segment_id == segment->grant.id)
                segment_let_go(segment, committed.write_offset);
            if (monotonic_since(monotonic_now(), last_look) >= LOOK_EVERY) {
                segment_look(segment);
                last_look = monotonic_now();
            }
            if (atomic_load(&segment->error))
                wakeup_now(&worker->recorder_wakeup);
        }
        segment_release(&segment);
        uint64_t age = monotonic_since(monotonic_now(), last_sync);
        /* One more look at the file after the last datagram; then an idle channel sleeps. */
        bool looked = interval && last_look.ns >= last_sync.ns;
        uint64_t timeout = dirty ? (age < interval ? interval - age : 1) : looked ? 0 : LOOK_EVERY;
        beat_parked(worker, CHANNEL_THREAD_SYNCER);
        /* Clean: the next commit starts the clock. Dirty: only the clock ends the sleep. */
        wakeup_wait(&recorder->syncer_wakeup, ticket, &worker->recorder_cursor,
                    dirty || !interval ? WAKEUP_NEVER : cursor + 1, timeout);
    }
    atomic_store(&worker->ring.page->beats[CHANNEL_THREAD_SYNCER].state, THREAD_ABSENT);
    return NULL;
}
