/* SPDX-License-Identifier: MIT */
/* The recorder thread: reads the ring, appends to the segment, commits. Trouble with the file ends
 * the segment, never the worker: datagrams stay in the ring until there is a new one, and what is
 * overwritten meanwhile is counted. Must never touch the map outside the guard, nor count anything
 * as recorded before it is committed. */
#include "worker/channel/recorder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/avro_log_format.h"
#include "common/channel_page.h"
#include "common/channel_page_refused.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "common/ring.h"
#include "worker/channel/attention.h"
#include "worker/channel/beat.h"
#include "worker/channel/caution.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/reading.h"
#include "worker/channel/recorder_block.h"
#include "worker/channel/recorder_inherit.h"
#include "worker/channel/recorder_mailbox.h"
#include "worker/channel/segment.h"
#include "worker/channel/segment_age.h"
#include "worker/channel/syncer.h"
#include "worker/channel/thread.h"
#include "worker/channel/wakeup.h"
#include "worker/last_words.h"
#include "worker/step.h"

#define STEP_RECORDS 256 /* at most, between two commits */
#define BLOCK_TIME   NS_PER_S
/* How often to look after lapping while there is nothing to write to */
#define NO_SEGMENT_NS   (100 * NS_PER_MS)
#define WANTED_AGAIN_NS (2 * NS_PER_S)
/* A stop waits this long for a segment that is still needed */
#define LAST_SEGMENT_NS (2 * NS_PER_S)

struct recorder {
    struct channel_state *channel;
    struct commit_progress committed; /* what the slot says */
    struct segment *current;          /* NULL when there is none */
    struct segment_age age;           /* of that one */
    monotonic wanted_at;
    sigjmp_buf jump;
    struct recorder_block block;
    struct recorder_mailbox mailbox;
};

static void recorder_commit(struct recorder *recorder, const struct commit_progress *work)
{
    struct channel_state *channel = recorder->channel;
    channel_page_write_commit(channel->ring.page, work);
    recorder->committed = *work;
    reading_committed(channel);
    atomic_store_explicit(&channel->recorder_cursor, work->next_seq, memory_order_release);
    wakeup_reached(&channel->space_wakeup, work->next_seq);
    syncer_committed(channel->syncer, work->next_seq);
}

/* Seal the open block if it has records, and open the next one. */
static void seal_block(struct recorder *recorder, struct commit_progress *work)
{
    if (work->block_records == 0)
        return;
    recorder_block_seal(&recorder->block, recorder->current, work);
    recorder_commit(recorder, work);
    REACHED(recorder->channel->ring.page, seal_committed);
}

/* ---- segments ---- */

/* Takes over the caller's reference. The one before is left with `end` bytes committed. */
static void set_current(struct recorder *recorder, struct segment *segment, uint64_t end)
{
    struct segment *before = recorder->current;
    recorder->current = segment;
    syncer_follow(recorder->channel->syncer, segment, end);
    segment_release(&before);
}

/* End the current segment, if there is one, and begin the upcoming one, which must be there. */
static void roll(struct recorder *recorder)
{
    struct channel_page *page = recorder->channel->ring.page;
    struct commit_progress work = recorder->committed;
    if (recorder->current) { /* else fail_segment() has noted what went before */
        seal_block(recorder, &work);
        REACHED(page, roll_sealed);
        work.finished_id = work.segment_id;
        work.finished_length = work.block_start;
        atomic_store(&recorder->mailbox.rotate_wanted, 0);
    }
    struct segment *segment = recorder_mailbox_take_upcoming(&recorder->mailbox);
    last_words_guard(segment->map, segment->grant.size, &recorder->jump);
    syncer_forget(page, segment->grant.id);
    set_current(recorder, segment, work.write_offset);
    recorder_block_begin_segment(&recorder->block, segment, &work);
    segment_name(segment, recorder->channel->spec->name, &work);
    segment_age_begin(&recorder->age, monotonic_now());
    channel_page_note_segment(page, segment->grant.id, segment->grant.sync, segment->grant.log_id);
    recorder_commit(recorder, &work);
    REACHED(page, roll_committed);
    recorder->wanted_at = (monotonic){0};
    recorder_mailbox_report_done(&recorder->mailbox, &work);
}

/* Bytes of the current segment that were committed: what lies behind them is recorded again in the
 * next one. */
static uint64_t committed_length(const struct recorder *recorder)
{
    const struct commit_progress *committed = &recorder->committed;
    return committed->segment_id == recorder->current->grant.id ? committed->write_offset : 0;
}

/* No segment from here on; the slot says so before anybody is told. */
static void give_up(struct recorder *recorder, uint64_t failed_id, uint64_t length)
{
    struct commit_progress work = recorder->committed;
    channel_page_note_refused(recorder->channel->ring.page, failed_id);
    /* For a successor that comes before the report was heard: it must not write there, see
     * INHERITED_USED_UP. */
    if (work.segment_id) {
        work.finished_id = work.segment_id;
        work.finished_length = work.segment_id == failed_id ? length : work.write_offset;
    }
    work.segment_id = work.block_start = work.write_offset = work.block_records = 0;
    recorder_commit(recorder, &work);
    REACHED(recorder->channel->ring.page, fail_committed);
    atomic_store(&recorder->mailbox.rotate_wanted, 0); /* what follows is a new one anyway */
    set_current(recorder, NULL, 0);
}

/* The file can't be written: let go of it. What was committed is the archive's to save. */
static void fail_segment(struct recorder *recorder, int error, const char *what, uint64_t length)
{
    uint64_t failed_id = recorder->current->grant.id;
    last_words_guard(NULL, 0, NULL);
    log_error("recording to the current segment failed: %s (%s); relaying goes on, a new segment "
              "is asked for",
              what, strerror(error));
    give_up(recorder, failed_id, length);
    recorder_mailbox_report_failed(&recorder->mailbox, failed_id, length, error, what);
}

static void report_broken(struct recorder *recorder)
{
    struct syncer_broken broken;
    while (syncer_take_broken(recorder->channel->syncer, &broken))
        recorder_mailbox_report_failed(&recorder->mailbox, broken.id, broken.length, broken.error,
                                       "fdatasync, when it was full");
}

/* Is it as old as this? Never, where no segment is to end by its age. */
static bool is_older_than(const struct recorder *recorder, uint64_t time_ns)
{
    return recorder->channel->spec->record.segment_time_ns &&
           segment_age_at(&recorder->age, monotonic_now()) >= time_ns;
}

static bool segment_has_records(const struct recorder *recorder)
{
    return recorder->committed.next_seq != recorder->committed.segment_first_seq;
}

/* Ask for the segment after this one in time: half full, half its time, or somebody wants to
 * rotate. */
static void ask_ahead(struct recorder *recorder)
{
    const struct record_spec *record = &recorder->channel->spec->record;
    const struct commit_progress *committed = &recorder->committed;
    monotonic now = monotonic_now();
    bool due = atomic_load(&recorder->mailbox.rotate_wanted) ||
               committed->write_offset > recorder->current->grant.size / 2 ||
               is_older_than(recorder, record->segment_time_ns / 2);
    if (!due || recorder_mailbox_has_upcoming(&recorder->mailbox) ||
        (recorder->wanted_at.ns && monotonic_since(now, recorder->wanted_at) < WANTED_AGAIN_NS))
        return;
    recorder->wanted_at = now;
    recorder_mailbox_report_wanted(&recorder->mailbox);
}

/* ---- records ---- */

/* The ring has overwritten datagrams that were not recorded: count them, and go on after them in a
 * new block. */
static void skip_lapped(struct recorder *recorder)
{
    struct channel_state *channel = recorder->channel;
    struct commit_progress work = recorder->committed;
    struct ring_datagram datagram;
    /* Also with on_full = "wait": a ring that was lapped under "lap" may be continued with other
     * settings. */
    if (work.next_seq == channel_state_relay_cursor(channel) ||
        ring_peek(&channel->ring, work.next_seq, &datagram))
        return; /* nothing is overwritten */
    uint64_t oldest = ring_oldest(&channel->ring, work.next_seq);
    uint64_t relayed = channel_state_relay_cursor(channel);
    if (oldest > relayed)
        oldest = relayed; /* what comes after it is not ours yet */
    if (oldest == work.next_seq)
        oldest++; /* a single one that can't be read must not keep us for ever */
    if (recorder->current)
        seal_block(recorder, &work);
    work.record_lost += oldest - work.next_seq;
    work.next_seq = oldest;
    REACHED(channel->ring.page, lap_skipped);
    recorder_commit(recorder, &work);
}

/* Record what was relayed, up to a bounded number. Returns false when nothing could be done now.
 */
static bool record_step(struct recorder *recorder)
{
    struct channel_state *channel = recorder->channel;
    struct commit_progress work = recorder->committed;
    uint64_t from = work.next_seq;
    uint64_t to = channel_state_relay_cursor(channel);
    enum append_result result = APPEND_DONE;

    if (to - from > STEP_RECORDS)
        to = from + STEP_RECORDS;
    to = caution_limit(&channel->caution[CONSUMER_RECORD], from, to);
    beat_work(channel, CHANNEL_THREAD_RECORDER, from, to);
    for (uint64_t seq = from; seq < to; seq++) {
        result = recorder_append(&recorder->block, recorder->current, &work, seq);
        if (result != APPEND_DONE)
            break;
        if (work.write_offset - work.block_start >= AVRO_LOG_BLOCK_SIZE)
            seal_block(recorder, &work);
    }
    if (work.next_seq != recorder->committed.next_seq) {
        REACHED(channel->ring.page, record_encoded);
        recorder_commit(recorder, &work);
        REACHED(channel->ring.page, record_committed);
    }
    beat_work(channel, CHANNEL_THREAD_RECORDER, 0, 0);
    if (result == APPEND_LAPPED)
        skip_lapped(recorder);
    if (result != APPEND_FULL) {
        syncer_ask_populate(channel->syncer, recorder->current, recorder->committed.write_offset);
        return true;
    }
    if (!recorder_mailbox_has_upcoming(&recorder->mailbox)) {
        atomic_store(&recorder->mailbox.rotate_wanted, 1);
        skip_lapped(recorder);
        return work.next_seq != from;
    }
    roll(recorder);
    return true;
}

/* Somebody wants to rotate, or the segment is old. An empty segment is as new as can be; but who
 * asked after datagrams had come means those: the wish waits until they are recorded. */
static void roll_if_due(struct recorder *recorder)
{
    _Atomic uint32_t *rotate_wanted = &recorder->mailbox.rotate_wanted;
    if (segment_has_records(recorder)) {
        if ((atomic_load(rotate_wanted) ||
             is_older_than(recorder, recorder->channel->spec->record.segment_time_ns)) &&
            recorder_mailbox_has_upcoming(&recorder->mailbox))
            roll(recorder);
    } else if (ring_published(&recorder->channel->ring) == recorder->committed.next_seq) {
        atomic_store(rotate_wanted, 0);
    }
}

/* One round under the guard. Returns whether there is more to do at once. */
static bool run_round(struct recorder *recorder)
{
    struct channel_state *channel = recorder->channel;
    bool pending = channel_state_relay_cursor(channel) != recorder->committed.next_seq;

    report_broken(recorder);
    if (!recorder->current) {
        if (pending)
            skip_lapped(recorder);
        if (!pending || !recorder_mailbox_has_upcoming(&recorder->mailbox))
            return false;
        roll(recorder);
        return true;
    }
    int error = atomic_load(&recorder->current->error);
    if (error) {
        fail_segment(recorder, error, recorder->current->error_what, committed_length(recorder));
        return true;
    }
    last_words_guard(recorder->current->map, recorder->current->grant.size, &recorder->jump);
    bool more = pending && record_step(recorder);
    if (recorder->committed.block_records > 0 &&
        monotonic_since(monotonic_now(), recorder->block.opened) >= BLOCK_TIME) {
        struct commit_progress work = recorder->committed;
        seal_block(recorder, &work);
    }
    ask_ahead(recorder);
    roll_if_due(recorder);
    return more;
}

/* Nothing to do now: how long may this thread sleep, and what ends the sleep early? */
static void wait_for_work(struct recorder *recorder, uint32_t ticket, bool flowing)
{
    struct channel_state *channel = recorder->channel;
    const struct record_spec *record = &channel->spec->record;
    uint64_t cursor = recorder->committed.next_seq;
    uint64_t slots = channel->ring.geometry.data_capacity / channel->ring.geometry.slot_size;
    uint64_t timeout = 0, wake_at = cursor + 1;

    if (channel_state_relay_cursor(channel) != cursor) { /* datagrams, but no segment with room */
        timeout = NO_SEGMENT_NS;
        wake_at = WAKEUP_NEVER;
    } else if (flowing && record->gather_ns) {
        timeout = record->gather_ns;
        wake_at = cursor + (slots / 8 < STEP_RECORDS ? slots / 8 : STEP_RECORDS);
    } else if (recorder->current && recorder->committed.block_records > 0) {
        uint64_t age = monotonic_since(monotonic_now(), recorder->block.opened);
        timeout = age < BLOCK_TIME ? BLOCK_TIME - age : 1;
    } else if (recorder->current && record->segment_time_ns && segment_has_records(recorder)) {
        timeout = segment_age_nap(&recorder->age, monotonic_now(), record->segment_time_ns);
    }
    if (atomic_load(&recorder->mailbox.rotate_wanted) && timeout == 0)
        timeout = NO_SEGMENT_NS;
    beat_parked(channel, CHANNEL_THREAD_RECORDER);
    wakeup_wait(&channel->recorder_wakeup, ticket, &channel->relay_cursor, wake_at, timeout);
    beat_busy(channel, CHANNEL_THREAD_RECORDER);
}

/* The last round: seal what is open. Datagrams that can't be recorded any more are lost when the
 * channel ends, and pending when another worker follows. */
static void finish(struct recorder *recorder)
{
    struct commit_progress work = recorder->committed;
    if (!atomic_load(&recorder->channel->stop_seals))
        return;
    if (recorder->current) {
        last_words_guard(recorder->current->map, recorder->current->grant.size, &recorder->jump);
        seal_block(recorder, &work);
    }
    uint64_t published = ring_published(&recorder->channel->ring);
    if (work.next_seq != published) {
        log_error(
            "%llu datagrams could not be recorded before the stop; they are counted as record_lost",
            (unsigned long long)(published - work.next_seq));
        work.record_lost += published - work.next_seq;
        work.next_seq = published;
        recorder_commit(recorder, &work);
    }
}

static void run(struct recorder *recorder)
{
    struct channel_state *channel = recorder->channel;
    monotonic ending_since = {0};
    uint64_t slept_at =
        recorder->committed.next_seq; /* where the last sleep began: has anything come since? */
    for (;;) {
        uint32_t ticket = wakeup_ticket(&channel->recorder_wakeup);
        /* Before the cursor: nothing comes after it. */
        bool ending = channel_state_stop_phase(channel) >= STOP_READERS;
        if (ending && ending_since.ns == 0)
            ending_since = monotonic_now();
        bool more = run_round(recorder);
        beat_busy(channel, CHANNEL_THREAD_RECORDER);
        if (more)
            continue;
        if (ending && (!atomic_load(&channel->stop_seals) || /* another worker follows */
                       recorder->committed.next_seq == channel_state_relay_cursor(channel) ||
                       monotonic_since(monotonic_now(), ending_since) > LAST_SEGMENT_NS))
            break;
        wait_for_work(recorder, ticket, recorder->committed.next_seq != slept_at);
        slept_at = recorder->committed.next_seq;
    }
    finish(recorder);
    last_words_guard(NULL, 0, NULL);
}

/* ---- taking over ---- */

/* The slot names this segment: go on in it. Takes *fd. */
static void continue_segment(struct recorder *recorder, int *fd, const struct segment_grant *grant)
{
    int error;
    struct segment *segment = segment_open(fd, grant, &error);
    if (!segment) {
        uint64_t length = recorder->committed.write_offset;
        log_error("segment %s can't be used: %s", grant->name, strerror(error));
        give_up(recorder, grant->id, length);
        recorder_mailbox_report_failed(&recorder->mailbox, grant->id, length, error,
                                       "mapping the segment");
        return;
    }
    set_current(recorder, segment, 0);
    segment_name(segment, recorder->channel->spec->name, &recorder->committed);
    segment_age_inherit(&recorder->age, monotonic_now(), realtime_now_ns(),
                        recorder->committed.segment_created_ns);
    if (!recorder_inherit_fits(&recorder->committed, segment)) {
        fail_segment(recorder, ESTALE, "the commit slot and the file disagree", UINT64_MAX);
    } else if (channel_page_was_refused(recorder->channel->ring.page, grant->id)) {
        fail_segment(recorder, EIO, "the disk had refused a part of it",
                     committed_length(recorder));
    } else {
        /* Said again in case the predecessor could not; the supervisor knows a repetition by its
         * ids. */
        recorder_mailbox_report_done(&recorder->mailbox, &recorder->committed);
    }
}

/* The predecessor gave it up, and nobody has heard of that yet. */
static void report_used_up(struct recorder *recorder, uint64_t id)
{
    const struct commit_progress *committed = &recorder->committed;
    uint64_t length = id == committed->finished_id ? committed->finished_length : UINT64_MAX;
    recorder_mailbox_report_failed(&recorder->mailbox, id, length, ESTALE,
                                   "the worker before gave it up");
}

/* Takes *fd, if there is one. */
static void inherit_segment(struct recorder *recorder, int *fd, const struct segment_grant *grant,
                            uint64_t next_id)
{
    if (*fd < 0)
        return;
    switch (recorder_inherit_ask(&recorder->committed, grant->id, next_id, *fd)) {
    case INHERITED_CONTINUE:
        continue_segment(recorder, fd, grant);
        break;
    case INHERITED_UNUSED:
        recorder_mailbox_inherit(&recorder->mailbox, fd, grant);
        break;
    case INHERITED_USED_UP:
        report_used_up(recorder, grant->id);
        break;
    case INHERITED_BEGUN_ALREADY: /* finished, and the predecessor was not heard any more */
        break;
    }
    fd_close(fd);
}

/* On the recorder's own thread: files are asked, and a disk may take its time to answer. By then
 * the relay has gone on. */
static void inherit_segments(struct recorder *recorder)
{
    struct channel_state *channel = recorder->channel;
    struct inheritance *inheritance = channel->inheritance;
    const struct message_assign *assign = &inheritance->assign;

    beat_disk(channel, CHANNEL_THREAD_RECORDER);
    /* The second is judged by what became of the first. */
    inherit_segment(recorder, &inheritance->segment, &assign->segment,
                    assign->has_next ? assign->next.id : 0);
    inherit_segment(recorder, &inheritance->next_segment, &assign->next, 0);
    beat_busy(channel, CHANNEL_THREAD_RECORDER);
}

/* ---- the thread ---- */

void *recorder_main(void *argument)
{
    struct channel_state *channel = argument;
    struct recorder *recorder = channel->recorder;

    thread_begin(channel, CHANNEL_THREAD_RECORDER);
    thread_schedule_behind();
    inherit_segments(recorder);
    /* A fault in the file's memory comes back here; everything that counts is in
     * recorder->committed. */
    if (sigsetjmp(recorder->jump, 0) != 0)
        fail_segment(recorder, EIO,
                     "the file's memory can't be written: disk error, or the file was truncated",
                     committed_length(recorder));
    run(recorder);
    beat_end(channel, CHANNEL_THREAD_RECORDER);
    atomic_store(&channel->recorder_done, 1);
    attention_call(&channel->attention);
    return NULL;
}

int recorder_open(struct channel_state *channel)
{
    struct recorder *recorder = calloc(1, sizeof *recorder);
    if (!recorder)
        return -ENOMEM;
    channel->recorder = recorder;
    recorder->channel = channel;
    channel->mailbox = &recorder->mailbox;
    recorder_mailbox_open(&recorder->mailbox, channel);
    recorder_block_open(&recorder->block, channel);
    channel_page_read_commit(channel->ring.page, &recorder->committed);
    atomic_store(&channel->recorder_cursor, recorder->committed.next_seq);
    return 0;
}
