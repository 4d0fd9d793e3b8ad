/* SPDX-License-Identifier: MIT */
/* Follows a channel from ring to ring. Called by the log's and the ring's reader. What the memory
 * says is believed as a limit only, and only where its check word is right; what the ring before
 * said last is kept, because nobody but it knows where its segments end. */
#include "common/client/live_ring.h"

#include <errno.h>
#include <string.h>

#include "common/channel_public.h"
#include "common/client/live_state.h"
#include "common/client/reader_link.h"
#include "common/fd.h"

#define ATTACH_AGAIN_NS (250 * NS_PER_MS)
/* A position that is refused is asked for so often, and for so long. */
#define POSITION_AGAIN_NS (50 * NS_PER_MS)
#define POSITION_NS       (2 * NS_PER_S)
#define WAKES_MOST        8

/* Files of this ring begin where its segments do; who has begun none finds others' from its own
 * beginning on. One that is given up before anybody looked leaves this behind what it was. */
static void note_begun(struct live_reader *reader)
{
    struct live_ring *ring = &reader->ring;
    const struct commit_progress *commit = &ring->commit;
    if (reader->by_ring || live_reader_is_by_ring(reader))
        return; /* it may not even be a recording channel's */
    if (commit->segment_id)
        ring->begun_end = commit->segment_first_seq + 1;
    else if (commit->recorded == 0 && commit->finished_id == 0)
        ring->begun_end = ring->map.page->start_seq;
    else
        return;
    ring->has_begun = true;
}

/* Of the current page; false leaves what was known. */
static bool read_commit(struct live_reader *reader)
{
    struct live_ring *ring = &reader->ring;
    struct commit_progress now;
    if (!channel_public_read_commit(ring->map.page, &now) || now.next_seq > AVRO_LOG_SEQ_MAX)
        return false;
    ring->commit = now;
    ring->has_commit = true;
    note_begun(reader);
    return true;
}

/* No worker has it any more, or it is to be asked for anew, or just not lent now: what it says now
 * is its last word only if it was retired before. */
static void leave(struct live_reader *reader)
{
    struct live_ring *ring = &reader->ring;
    uint64_t end;
    if (!ring->map.page)
        return;
    /* Where that look fails, what was read before says which numbers were given, and not where the
     * segments end. */
    ring->former_is_final = channel_public_is_retired(ring->map.page, &end);
    ring->has_former = read_commit(reader);
    ring->former = ring->commit;
    if (!ring->former_is_final)
        end = channel_public_published(ring->map.page);
    if (reader->by_ring && end <= INT64_MAX)
        ring->former_end = end;
    else if (!reader->by_ring && ring->has_commit)
        ring->former_end = ring->commit.next_seq;
    ring->has_commit = false;
    channel_public_unmap(&ring->map);
    ring->number = 0;
}

/* ---- numbers that are given again ---- */

static void note_anew(struct live_reader *reader, uint64_t seq)
{
    if (!reader->begins_anew || seq < reader->anew_seq)
        reader->anew_seq = seq;
    reader->begins_anew = true;
}

/* What lies before it is behind the reader; that of HF_OLD only by its promise. */
static uint64_t passed_end(const struct live_reader *reader)
{
    return reader->base.mode == HF_OLD ? reader->opened_seq : reader->next_seq;
}

/* After everything has died, what was lost at the end of the log is not known any more, and its
 * numbers are given again; or there is no log any more. Who has passed them must come back: to this
 * ring's first one, or to what another one has recorded that was there meanwhile. A number that
 * nobody has given yet is still to come. */
static void look_whether_anew(struct live_reader *reader)
{
    const struct live_ring *ring = &reader->ring;
    const uint64_t passed = passed_end(reader), start = ring->map.page->start_seq;
    if (live_reader_is_by_ring(reader) || !reader->started || passed > ring->former_end)
        return;
    if (!reader->by_ring && !reader->looks_back) {
        reader->look_from = ring->has_begun               ? ring->begun_end
                            : reader->base.mode == HF_OLD ? passed
                                                          : reader->passed_from;
        /* Not said by a slot: a segment may have been begun unseen, and be given up. */
        if (ring->former.segment_id == 0 &&
            (ring->former.recorded > 0 || ring->former.finished_id != 0) &&
            reader->look_from < reader->passed_from)
            reader->look_from = reader->passed_from;
        reader->looks_back = reader->look_from < passed;
    }
    if (start < passed)
        note_anew(reader, start);
}

/* The first one: is what files had at the beginning not in its log any more? What a file has that
 * this ring may be writing to, it may be about to commit. */
static void look_whether_first_is_anew(struct live_reader *reader)
{
    const struct live_ring *ring = &reader->ring;
    const uint64_t passed = passed_end(reader), start = ring->map.page->start_seq;
    const bool is_final = reader->opened_in == UINT64_MAX || start > reader->opened_in;
    if (reader->started && is_final && !live_reader_is_by_ring(reader) && ring->has_commit &&
        reader->opened_seq != UINT64_MAX && ring->commit.next_seq < reader->opened_seq &&
        passed <= reader->opened_seq && start < passed)
        note_anew(reader, start);
}

void live_ring_found_behind(struct live_reader *reader, uint64_t first_seq)
{
    if (first_seq >= reader->look_from && first_seq < passed_end(reader))
        note_anew(reader, first_seq);
}

/* While no ring is lent, a file that is read may be of one that was not seen, and that gives again
 * what was told as lost. Nobody would know that any more once its numbers are passed; nor is it to
 * be found again by who looks back later. */
bool live_ring_found_unseen(struct live_reader *reader, uint64_t first_seq)
{
    struct live_ring *ring = &reader->ring;
    if (ring->map.page || (ring->has_begun && first_seq < ring->begun_end))
        return false;
    if (ring->has_begun)
        ring->begun_end = first_seq + 1;
    if (ring->has_begun && first_seq < ring->former_end)
        ring->former_end = first_seq; /* what is read from here on is not that ring's */
    if (first_seq < reader->passed_from || first_seq >= reader->next_seq)
        return false;
    note_anew(reader, first_seq);
    return true;
}

/* Another connection may still have it that has ended, or the gate is overloaded. */
static void ask_position_later(struct live_reader *reader)
{
    const monotonic now = monotonic_now();
    if (reader->position_until.ns == 0)
        reader->position_until = monotonic_add(now, POSITION_NS);
    if (now.ns < reader->position_until.ns)
        reader->position_again_at = monotonic_add(now, POSITION_AGAIN_NS);
    else
        reader->asks_position = false; /* it is somebody else's now */
}

/* A power cut takes the log's end, and the archive takes positions beyond it back to it before
 * there is a ring. Whoever began before that hears of it now. */
static void look_at_position(struct live_reader *reader)
{
    const struct read_position *position = &reader->link.claimed;
    if (reader->claim_error && reader->claim_error != -EACCES) {
        if (reader->asks_position)
            ask_position_later(reader);
        return;
    }
    reader->asks_position = false;
    if (!reader->by_position || !position->known || position->seq >= reader->position)
        return;
    reader->position = position->seq;
    note_anew(reader, position->seq);
}

void live_ring_join_log(struct live_reader *reader)
{
    const struct live_ring *ring = &reader->ring;
    reader->awaits_ring = false;
    if (ring->pair != reader->ring_read && ring->map.page->start_seq != reader->next_seq) {
        reader->begins_anew = true;
        reader->anew_seq = ring->map.page->start_seq;
    }
}

static void adopt(struct live_reader *reader)
{
    struct live_ring *ring = &reader->ring;
    struct channel_public_map map = {0};
    const char *what;
    int fd = fd_take(&reader->link.attached_fd);
    reader->records = reader->link.attached.records;
    if (!reader->started)
        reader->by_ring = live_reader_is_by_ring(reader);
    ring->attached = ring->changed = true;
    ring->error = 0;
    if (fd >= 0 && reader->link.attached.has_ring &&
        channel_public_map(fd, live_reader_is_by_ring(reader), &map, &what) < 0)
        ring->attach_at = monotonic_add(monotonic_now(), ATTACH_AGAIN_NS);
    fd_close(&fd);
    if (!map.page) {
        leave(reader);
        /* Also where it can't be mapped: the gate's is no other one. */
        ring->number = reader->link.attached.ring;
        return;
    }
    uint64_t pair = map.page->pair;
    bool other = ring->pair != pair;
    if (other)
        leave(reader);
    else
        ring->has_former = false; /* it isn't */
    channel_public_unmap(&ring->map);
    ring->map = map;
    ring->pair = pair;
    if (other) {
        look_whether_anew(reader);
        reader->asks_position = reader->started && reader->by_position;
        reader->position_again_at = reader->position_until = (monotonic){0};
    }
    if (reader->awaits_ring)
        live_ring_join_log(reader);
    ring->number = reader->link.attached.ring;
    ring->asked_again = channel_public_is_retired(ring->map.page, NULL);
    live_ring_look(reader);
    if (other && ring->former_end == 0)
        look_whether_first_is_anew(reader);
    /* Nothing else could say where that ends. */
    if (reader->opened_seq == UINT64_MAX && reader->base.mode == HF_OLD && ring->has_commit)
        reader->opened_seq = ring->commit.next_seq;
}

static void attach_again(struct live_reader *reader)
{
    reader->ring.attach_at = (monotonic){0};
    if (reader_link_ask(&reader->link, ASK_ATTACH, &reader->link.attach) < 0 &&
        reader->link.socket >= 0)
        reader->ring.attach_at = monotonic_add(monotonic_now(), ATTACH_AGAIN_NS);
}

/* While there is none, also whoever is busy with files has to hear of one: only it tells how far
 * the newest of them may be read. */
static void watch_for_ring(struct live_reader *reader)
{
    struct live_ring *ring = &reader->ring;
    const struct read_arm arm = {.what = live_reader_is_by_ring(reader) ? READ_FOR_PUBLISHED
                                                                        : READ_FOR_COMMITTED,
                                 .seq = reader->next_seq,
                                 .ring = ring->number};
    if (reader->started && ring->attached && !ring->map.page && ring->attach_at.ns == 0)
        reader_link_arm(&reader->link, &arm);
}

void live_ring_pump(struct live_reader *reader)
{
    struct reader_link *link = &reader->link;
    struct live_ring *ring = &reader->ring;
    int error;
    reader_link_pump(link);
    if (reader_link_take(link, ASK_CLAIM, &error)) {
        reader->claim_error = error;
        look_at_position(reader);
    }
    if (reader_link_take(link, ASK_ATTACH, &error)) {
        if (error == 0) {
            adopt(reader);
        } else {
            ring->error = error;
            ring->attach_at = monotonic_add(monotonic_now(), ATTACH_AGAIN_NS);
        }
    }
    if (link->woken) {
        link->woken = false;
        reader->woken = true;
        if (link->woken_ring != ring->number)
            attach_again(reader);
    }
    if (ring->attach_at.ns) {
        if (monotonic_now().ns >= ring->attach_at.ns)
            attach_again(reader);
        else
            reader_link_wake_at(link, ring->attach_at);
    }
    watch_for_ring(reader);
}

static bool take_wake(struct live_reader *reader)
{
    if (reader->woken && reader->wakes < WAKES_MOST) {
        reader->woken = false;
        reader->wakes++;
        return true;
    }
    if (reader->woken)
        reader_link_wake_at(&reader->link, monotonic_now());
    reader->wakes = 0;
    return false;
}

static bool take_change(struct live_ring *ring)
{
    const bool changed = ring->changed;
    ring->changed = false;
    return changed;
}

bool live_ring_fall_asleep(struct live_reader *reader, enum read_arm_for what, uint64_t seq)
{
    struct live_ring *ring = &reader->ring;
    live_ring_pump(reader);
    if (take_wake(reader) || take_change(ring))
        return false;
    /* While a ring that can't be had waits to be asked for again, what is in it would be reason to
     * be woken without end. */
    const struct read_arm arm = {.what = what, .seq = seq, .ring = ring->number};
    if (ring->attach_at.ns == 0)
        reader_link_arm(&reader->link, &arm);
    return true;
}

void live_ring_look(struct live_reader *reader)
{
    struct live_ring *ring = &reader->ring;
    if (!ring->map.page)
        return;
    bool retired = channel_public_is_retired(ring->map.page, NULL); /* before its last word */
    read_commit(reader);
    if (retired && !ring->asked_again) {
        ring->asked_again = true;
        attach_again(reader);
    }
}

void live_ring_close(struct live_reader *reader)
{
    channel_public_unmap(&reader->ring.map);
}
