/* SPDX-License-Identifier: MIT */
/* Reads a channel's log while it is written, rolled, sealed, mended and removed. Called for every
 * datagram, by hf_next(). Must never wait, never deliver a number twice or out of order, and never
 * pass one over without saying so.
 *
 * next_seq is the only position that counts. A segment is found by it, read up to a limit, and left
 * for the next one when nothing more can come in it (reader_limit.c).
 *
 * The slot is read before it is used, as one sound copy, so "walked up to the limit" and "the next
 * number" belong to the same moment: what is missing between them was never recorded there. Two
 * rolls between two looks overwrite finished_*; then the file is sealed, or bounded by the next
 * one. A segment that was given up goes on to be read by its descriptor up to its finished length;
 * its records may since be in another file, which next_seq finds just as well. While the archive
 * changes a damaged file for its copy, neither has a name for a moment: so a hole between two files
 * is believed only if it is still there after a while. */
#include "common/client/reader_log.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/client/live_state.h"
#include "common/client/reader_link.h"
#include "common/client/live_ring.h"
#include "common/client/reader_anew.h"
#include "common/client/reader_limit.h"
#include "common/client/reader_search.h"
#include "common/client/record.h"
#include "common/client/segment_walk.h"
#include "common/fd.h"

#define HOLE_NS     (250 * NS_PER_MS) /* so long, a hole between two files must be there */
#define PATIENCE_NS NS_PER_S          /* so long, a file that ought to be there is waited for */
#define MENDING_NS  (30 * NS_PER_S)   /* so long, what mending gives a name to */

/* Of the segment that is being read. */
static enum limit_kind find_present_limit(const struct live_reader *reader,
                                          struct segment_limit *ret)
{
    return reader_limit_find(&reader->ring, reader->segment.id, &reader->segment.found,
                             reader_search_has_waited(reader, PATIENCE_NS), ret);
}

/* Is there more to read by the new one? */
static bool is_further(const struct segment_limit *to, const struct segment_limit *from)
{
    return to->end > from->end || (to->end == from->end && to->seq_end > from->seq_end);
}

/* ---- the segment ---- */

static void leave_segment(struct live_reader *reader)
{
    reader->has_held = false; /* it points into the walk */
    reader->segment.walk = segment_walk_close(reader->segment.walk);
}

/* Takes the descriptor. The walk stands at the segment's start. */
static int open_segment(struct live_reader *reader, int fd, uint64_t id, bool patient)
{
    struct live_segment *segment = &reader->segment;
    struct segment_limit limit;
    const char *what;
    enum limit_kind kind =
        reader_limit_find(&reader->ring, id, &reader->link.found, patient, &limit);
    leave_segment(reader);
    if (kind == LIMIT_UNKNOWN) {
        fd_close(&fd);
        return -EAGAIN;
    }
    int result = segment_walk_open(fd, kind == LIMIT_BOUNDED, &segment->walk, &what);
    if (result < 0)
        return result;
    segment->id = id;
    segment->unfinished = kind == LIMIT_BOUNDED;
    segment->found = reader->link.found;
    segment->limit = limit;
    segment_walk_set_limit(segment->walk, &limit);
    return 0;
}

/* The file behind the descriptor, as the commit slot names it; 0: none that can be read. */
static uint64_t identify(int fd)
{
    struct stat about;
    return fd >= 0 && fstat(fd, &about) == 0 && S_ISREG(about.st_mode) ? about.st_ino : 0;
}

int reader_log_enter(struct live_reader *reader, bool patient)
{
    int fd = fd_take(&reader->link.found_fd);
    uint64_t id = identify(fd);
    return open_segment(reader, fd, id, patient);
}

void reader_log_leave(struct live_reader *reader)
{
    leave_segment(reader);
    reader_link_forget(&reader->link, ASK_FIND);
    reader->gap = (struct live_gap){0};
    reader->search.asks_back = false;
    reader_search_succeeded(reader);
}

/* ---- where nothing more is to be had from the present segment ---- */

static enum hf_why why_missing(const struct live_reader *reader)
{
    const struct segment_walk *walk = reader->segment.walk;
    return walk && (segment_walk_was_damaged(walk) || segment_walk_is_cut_off(walk))
               ? HF_DAMAGED
               : HF_UNRECORDED;
}

static int set_gap(struct live_reader *reader, uint64_t end, enum hf_why why)
{
    reader->gap = (struct live_gap){end, why};
    reader_search_succeeded(reader);
    return MORE;
}

static int tell_live(struct live_reader *reader)
{
    if (reader->base.mode != HF_JOINED || reader->live_told)
        return MORE;
    reader->live_told = true;
    return HF_LIVE;
}

/* Sleep until the gate says that there is more. */
static int sleep_until_more(struct live_reader *reader)
{
    int result = tell_live(reader);
    if (result != MORE)
        return result;
    return live_ring_fall_asleep(reader, READ_FOR_COMMITTED, reader->next_seq) ? HF_NONE : MORE;
}

/* There is no ring, so nobody writes; and no file has more. What should have been there is told:
 * what the last file's header says, and what HF_OLD has promised. */
static int at_end_of_files(struct live_reader *reader, enum hf_why why)
{
    bool old = reader->base.mode == HF_OLD;
    uint64_t promised = old && reader->opened_seq != UINT64_MAX ? reader->opened_seq : 0;
    uint64_t end = reader->segment.walk ? segment_walk_end_by_header(reader->segment.walk) : 0;
    if (end <= reader->next_seq)
        end = promised;
    else
        why = HF_DAMAGED;
    if (end > reader->next_seq)
        return reader_search_has_waited(reader, HOLE_NS) ? set_gap(reader, end, why)
                                                         : reader_search_in_vain(reader);
    if (old) {
        reader->opened_seq = reader->next_seq;
        return HF_FINISHED;
    }
    return sleep_until_more(reader);
}

/* Everything has died, and what the ring before wrote last lies in a segment that has no name
 * before it is mended. */
static bool is_being_mended(const struct live_reader *reader)
{
    const struct live_ring *ring = &reader->ring;
    return !ring->has_commit && ring->has_former && ring->former.segment_id != 0 &&
           ring->former.segment_id != reader->segment.id &&
           ring->former.segment_first_seq > reader->segment.found.first_seq &&
           !reader_search_has_waited(reader, MENDING_NS);
}

/* The present segment is read to its end, and the gate has just told what follows it. */
static int segment_ended(struct live_reader *reader)
{
    const struct live_ring *ring = &reader->ring;
    uint64_t next = reader->segment.found.next_first_seq;
    if (next != UINT64_MAX) {
        if (next > reader->next_seq && reader_search_has_waited(reader, HOLE_NS))
            return set_gap(reader, next, why_missing(reader));
        return reader_search_in_vain(reader);
    }
    if (reader->base.mode == HF_OLD && is_being_mended(reader))
        return reader_search_in_vain(reader);
    if (!ring->has_commit)
        return at_end_of_files(reader, why_missing(reader));
    if (ring->commit.segment_id == reader->segment.id &&
        ring->commit.segment_first_seq == reader->segment.found.first_seq)
        return MORE;
    if (ring->commit.segment_id == 0 && reader_search_has_waited(reader, PATIENCE_NS))
        return set_gap(reader, ring->commit.next_seq, why_missing(reader));
    return reader_search_in_vain(reader);
}

/* ---- the gate's answers ---- */

static int refused(struct live_reader *reader, int error)
{
    const struct live_ring *ring = &reader->ring;
    if (error == -ENOENT && !ring->has_commit)
        return at_end_of_files(reader, HF_EXPIRED);
    if (error == -ENOENT && ring->commit.segment_id == 0 &&
        reader_search_has_waited(reader, PATIENCE_NS))
        return set_gap(reader, ring->commit.next_seq,
                       ring->commit.recorded ? HF_EXPIRED : HF_UNRECORDED);
    reader_search_in_vain(reader);
    return error == -EIO || error == -EACCES || error == -EMFILE || error == -ENFILE ? error
                                                                                     : HF_NONE;
}

/* The same segment again: what is known of it now? Takes the descriptor. */
static int found_again(struct live_reader *reader, int fd)
{
    struct live_segment *segment = &reader->segment;
    struct segment_limit limit;
    /* Its header may say by now what it has, which the ring no longer does. */
    bool is_sealed_now =
        !reader->ring.has_commit && segment->found.is_open && !reader->link.found.is_open;
    segment->found = reader->link.found;
    enum limit_kind kind = find_present_limit(reader, &limit);
    if (kind != LIMIT_UNKNOWN &&
        (is_sealed_now || (kind == LIMIT_BOUNDED) != segment->unfinished)) {
        int result =
            open_segment(reader, fd, segment->id, reader_search_has_waited(reader, PATIENCE_NS));
        if (result == 0)
            result = segment_walk_seek_seq(segment->walk, reader->next_seq);
        return result < 0 ? result : MORE;
    }
    fd_close(&fd);
    if (kind == LIMIT_UNKNOWN)
        return reader_search_in_vain(reader);
    if (!is_further(&limit, &segment->limit))
        return segment_ended(reader);
    segment->limit = limit;
    segment_walk_set_limit(segment->walk, &limit);
    return MORE;
}

/* It is no log file, or not yet, and nobody who could change that has done so. */
static int found_unreadable(struct live_reader *reader)
{
    const struct live_ring *ring = &reader->ring;
    const struct read_found *found = &reader->link.found;
    leave_segment(reader);
    if (found->next_first_seq != UINT64_MAX && found->next_first_seq > reader->next_seq)
        return set_gap(reader, found->next_first_seq, HF_DAMAGED);
    if (!ring->has_commit)
        return at_end_of_files(reader, HF_DAMAGED);
    if (ring->commit.segment_id == 0)
        return set_gap(reader, ring->commit.next_seq, HF_DAMAGED);
    return reader_search_in_vain(reader);
}

/* Takes the descriptor. */
static int found_other(struct live_reader *reader, int fd, uint64_t id)
{
    const struct read_found *found = &reader->link.found;
    bool hole = found->first_seq > reader->next_seq;
    if (hole && !reader_search_has_waited(reader, HOLE_NS)) {
        fd_close(&fd);
        return reader_search_in_vain(reader);
    }
    int result = open_segment(reader, fd, id, reader_search_has_waited(reader, PATIENCE_NS));
    if (result == 0)
        result = segment_walk_seek_seq(reader->segment.walk, reader->next_seq);
    if (result == -EBADMSG && reader_search_has_waited(reader, PATIENCE_NS))
        return found_unreadable(reader);
    if (result < 0) {
        leave_segment(reader);
        reader_search_in_vain(reader);
        return result == -EAGAIN || result == -EBADMSG ? HF_NONE : result;
    }
    reader_search_succeeded(reader);
    if (live_ring_found_unseen(reader, found->first_seq))
        return MORE;
    return hole ? set_gap(reader, found->first_seq, HF_EXPIRED) : MORE;
}

static int answered(struct live_reader *reader, int error)
{
    if (error < 0)
        return refused(reader, error);
    int fd = fd_take(&reader->link.found_fd);
    uint64_t id = identify(fd);
    return reader->segment.walk && id == reader->segment.id ? found_again(reader, fd)
                                                            : found_other(reader, fd, id);
}

static int find_segment(struct live_reader *reader)
{
    struct live_search *search = &reader->search;
    struct reader_link *link = &reader->link;
    int error;
    live_ring_pump(reader);
    if (reader->begins_anew || reader->looks_back || reader->asks_position)
        return MORE;
    if (reader_link_take(link, ASK_FIND, &error)) {
        if (search->asked_seq == reader->next_seq)
            return answered(reader, error);
        fd_close(&link->found_fd);
    }
    return reader_search_ask(reader,
                             &(struct read_find){.by = READ_BY_SEQ, .seq = reader->next_seq});
}

/* ---- at the limit ---- */

/* The walk has come to its limit, or there is none. */
static int at_limit(struct live_reader *reader)
{
    struct live_ring *ring = &reader->ring;
    struct live_segment *segment = &reader->segment;
    /* All that was there when the slot was looked at last has been read. */
    if (ring->has_commit && reader->next_seq >= ring->commit.next_seq) {
        int result = tell_live(reader);
        if (result != MORE)
            return result;
    }
    live_ring_look(reader);
    if (ring->has_commit && reader->next_seq >= ring->commit.next_seq)
        return sleep_until_more(reader);
    if (segment->walk) {
        struct segment_limit limit;
        enum limit_kind kind = find_present_limit(reader, &limit);
        bool as_opened = (kind == LIMIT_BOUNDED) == segment->unfinished;
        if (kind != LIMIT_UNKNOWN && as_opened && is_further(&limit, &segment->limit)) {
            segment->limit = limit;
            segment_walk_set_limit(segment->walk, &limit);
            return MORE;
        }
        /* It is walked as far as the slot says, so the numbers that the slot has beyond it are
         * nowhere. */
        if (kind == LIMIT_COMMIT && as_opened)
            return set_gap(reader, ring->commit.next_seq, why_missing(reader));
    }
    return find_segment(reader);
}

/* The file can't be read. The next call finds it anew. */
static int walk_failed(struct live_reader *reader, int error)
{
    leave_segment(reader);
    reader_search_in_vain(reader);
    return error;
}

/* ---- telling ---- */

static uint64_t end_of_old(const struct live_reader *reader)
{
    return reader->base.mode == HF_OLD ? reader->opened_seq : UINT64_MAX;
}

static int tell_lost(struct live_reader *reader, uint64_t end, enum hf_why why,
                     struct hf_datagram *ret)
{
    if (end > end_of_old(reader))
        end = end_of_old(reader);
    *ret =
        (struct hf_datagram){.seq = reader->next_seq, .lost = end - reader->next_seq, .why = why};
    reader->next_seq = end;
    reader->uncovered_told = false;
    return HF_LOST;
}

static int tell_held(struct live_reader *reader, struct hf_datagram *ret)
{
    const struct avro_log_record *held = &reader->held;
    uint64_t seq = (uint64_t)held->seq;
    if (seq > reader->next_seq)
        return tell_lost(reader, seq, why_missing(reader), ret);
    if ((held->flags & AVRO_LOG_NOT_COVERED) && reader->returned_any && !reader->uncovered_told) {
        reader->uncovered_told = true;
        *ret = (struct hf_datagram){.seq = seq, .why = HF_UNCOVERED};
        return HF_LOST;
    }
    reader->has_held = false;
    reader->uncovered_told = false;
    reader->returned_any = true;
    reader->next_seq = reader->passed_from = seq + 1;
    reader->by_position = false;
    record_to_datagram(held, &reader->source, ret);
    return HF_DATAGRAM;
}

/* The numbers from here on belong to other datagrams than those that were passed; or than those
 * that were promised, and there is nothing to go back to. */
static int begin_anew(struct live_reader *reader, struct hf_datagram *ret)
{
    if (reader->base.mode == HF_OLD) {
        reader->begins_anew = false;
        reader->old_end = reader->anew_seq < reader->old_end ? reader->anew_seq : reader->old_end;
        return MORE;
    }
    reader_log_leave(reader);
    reader->begins_anew = false;
    reader->uncovered_told = true;
    if (reader->durable_seq > reader->anew_seq)
        reader->durable_seq = reader->anew_seq;
    reader->durable_id = 0;
    reader->next_seq = reader->passed_from = reader->anew_seq;
    *ret = (struct hf_datagram){.seq = reader->next_seq, .why = HF_UNCOVERED};
    return HF_LOST;
}

int reader_log_next(struct live_reader *reader, struct hf_datagram *ret)
{
    for (;;) {
        int result = reader_anew_look(reader);
        if (result == MORE && live_reader_is_by_ring(reader))
            result = LIVE_READER_CHANGED;
        if (result == MORE && reader->awaits_ring) {
            if (live_ring_fall_asleep(reader, READ_FOR_COMMITTED, reader->next_seq))
                return HF_NONE;
            continue;
        }
        if (result == MORE && reader->begins_anew)
            result = begin_anew(reader, ret);
        if (result != MORE)
            return result;
        if (reader->next_seq >= end_of_old(reader))
            return HF_FINISHED;
        if (reader->next_seq >= reader->old_end)
            return tell_lost(reader, end_of_old(reader), HF_UNRECORDED, ret);
        if (reader->gap.end > reader->next_seq)
            return tell_lost(reader, reader->gap.end, reader->gap.why, ret);
        if (reader->has_held)
            return tell_held(reader, ret);
        result = WALK_END;
        if (reader->segment.walk)
            result = segment_walk_next(reader->segment.walk, reader->next_seq, &reader->held);
        if (result == WALK_RECORD) {
            reader->has_held = true;
            if (reader->search.vain)
                reader_search_succeeded(reader);
            continue;
        }
        result = result < 0 ? walk_failed(reader, result) : at_limit(reader);
        if (result != MORE)
            return result;
    }
}
