/* SPDX-License-Identifier: MIT */
/* Turns what a program says of where to begin into a number. Called by hf_read() and hf_seek(),
 * within their deadline. Reads files, never more than it takes to find one record. */
#include "common/client/reader_start.h"

#include <errno.h>

#include "common/client/gate_link.h"
#include "common/client/live_state.h"
#include "common/client/reader_link.h"
#include "common/client/live_ring.h"
#include "common/client/reader_log.h"
#include "common/client/segment_walk.h"
#include "common/fd.h"

/* A position that is still held by a connection which has just ended is waited for. */
#define HELD_NS          (300 * NS_PER_MS)
#define HELD_AGAIN_NS    (10 * NS_PER_MS)

#define UNKNOWN_NS       (500 * NS_PER_MS)
#define UNKNOWN_AGAIN_NS (2 * NS_PER_MS)

/* ---- asking ---- */

/* Is this connection refused for good? */
static int greeting_error(struct live_reader *reader)
{
    int error;
    return reader_link_take(&reader->link, ASK_HELLO, &error) ? error : 0;
}

int reader_start_ask(struct live_reader *reader, enum question question, const void *payload,
                     monotonic deadline)
{
    struct reader_link *link = &reader->link;
    int error;
    reader_link_forget(link, question);
    for (;;) {
        live_ring_pump(reader);
        if (reader_link_take(link, question, &error))
            return error;
        if (link->greeted)
            reader_link_ask(link, question, payload);
        int result = gate_link_wait(link->epoll, deadline);
        if (result < 0)
            return result;
    }
}

static int claim(struct live_reader *reader, monotonic deadline)
{
    struct reader_link *link = &reader->link;
    monotonic patient_until = monotonic_add(monotonic_now(), HELD_NS);
    for (;;) {
        live_ring_pump(reader); /* connecting again claims it, too */
        if (link->greeted && link->questions[ASK_CLAIM].request == 0) {
            if (reader->claim_error == 0)
                return 0;
            monotonic now = monotonic_now();
            if (reader->claim_error != -EBUSY || now.ns >= patient_until.ns)
                return reader->claim_error;
            reader_link_wake_at(link, monotonic_add(now, HELD_AGAIN_NS));
            reader_link_ask(link, ASK_CLAIM, &link->claim);
        }
        int result = gate_link_wait(link->epoll, deadline);
        if (result < 0)
            return result;
    }
}

int reader_start_attach(struct live_reader *reader, monotonic deadline)
{
    for (;;) {
        live_ring_pump(reader);
        int result = greeting_error(reader);
        if (result == 0 && !reader->ring.attached)
            result = reader->ring.error;
        if (result < 0)
            return result;
        if (reader->ring.attached)
            break;
        result = gate_link_wait(reader->link.epoll, deadline);
        if (result == -ETIMEDOUT && reader->link.turned_away < 0)
            return reader->link.turned_away;
        if (result < 0)
            return result;
    }
    return reader->link.claim.name[0] ? claim(reader, deadline) : 0;
}

/* ---- finding ---- */

/* Since then a file was read, and nobody waited for: however long that takes on a slow disk or in a
 * damaged file, the gate has not been late. */
static void was_reading(monotonic *deadline, monotonic since)
{
    *deadline = monotonic_add(*deadline, monotonic_since(monotonic_now(), since));
}

static int find(struct live_reader *reader, const struct read_find *find, monotonic *deadline)
{
    return reader_start_ask(reader, ASK_FIND, find, *deadline);
}

/* The ring has committed to a segment, and nobody finds one: the first of all has yet to get its
 * name. */
static bool is_being_named(const struct live_reader *reader)
{
    return reader->ring.has_commit && reader->ring.commit.segment_id != 0;
}

/* Find a segment and begin to read it. One of which nobody can say how far it may be read is being
 * left for the next one, as a rule: it is asked for again. Where that doesn't help, nobody writes
 * it: it is read as far as it is sound. 0, -ENOENT, or another -errno. */
static int enter(struct live_reader *reader, const struct read_find *what, monotonic *deadline)
{
    monotonic patient_until = monotonic_add(monotonic_now(), UNKNOWN_NS);
    for (;;) {
        bool patient = reader->has_waited || monotonic_now().ns >= patient_until.ns;
        reader->has_waited = patient;
        int result = find(reader, what, deadline);
        const monotonic found = monotonic_now();
        if (result == 0)
            result = reader_log_enter(reader, patient);
        else if (result == -ENOENT && what->by != READ_AFTER && is_being_named(reader) && !patient)
            result = -EAGAIN;
        was_reading(deadline, found);
        monotonic now = monotonic_now();
        if (result != -EAGAIN || patient)
            return result;
        reader_link_wake_at(&reader->link, monotonic_add(now, UNKNOWN_AGAIN_NS));
        result = gate_link_wait(reader->link.epoll, *deadline);
        if (result < 0)
            return result;
        live_ring_look(reader);
    }
}

/* Behind everything that is recorded, as far as the ring tells. */
static uint64_t ring_end(const struct live_reader *reader)
{
    return reader->ring.has_commit ? reader->ring.commit.next_seq : 0;
}

static int at_first(struct live_reader *reader, monotonic *deadline)
{
    int result = find(reader, &(struct read_find){.by = READ_FIRST}, deadline);
    fd_close(&reader->link.found_fd);
    if (result == -ENOENT) {
        reader->next_seq =
            is_being_named(reader) ? reader->ring.commit.segment_first_seq : ring_end(reader);
        return 0;
    }
    if (result == 0)
        reader->next_seq = reader->link.found.first_seq;
    return result;
}

struct last_record {
    uint64_t seq;
    uint64_t promised; /* everything before it was there, by the last one's header or beginning */
    uint64_t in_open;  /* the first number of the open file that says so; UINT64_MAX: none does */
};

/* 1 = ret->seq is the newest record's number; 0 = there is none. */
static int find_last(struct live_reader *reader, struct last_record *ret, monotonic *deadline)
{
    struct read_find what = {.by = READ_LAST};
    uint64_t end = reader->ring.has_commit ? reader->ring.commit.next_seq : AVRO_LOG_SEQ_MAX;
    *ret = (struct last_record){.in_open = UINT64_MAX};
    for (;;) {
        int result = enter(reader, &what, deadline);
        if (result == -ENOENT || result == -ETIMEDOUT)
            return result == -ENOENT ? 0 : result;
        const monotonic entered = monotonic_now();
        uint64_t first = reader->link.found.first_seq;
        if (what.by == READ_LAST && first <= AVRO_LOG_SEQ_MAX)
            ret->promised = first;
        if (reader->link.found.is_open && first < ret->in_open)
            ret->in_open = first;
        if (result == 0) {
            const uint64_t by_header = segment_walk_end_by_header(reader->segment.walk);
            if (by_header && by_header < end)
                end = by_header;
            if (by_header && what.by == READ_LAST)
                ret->promised = end;
            result = segment_walk_seek_last(reader->segment.walk, end, &ret->seq);
            was_reading(deadline, entered);
        }
        if (result == 1 || (result < 0 && result != -EAGAIN && result != -EBADMSG))
            return result;
        if (first == 0 || first > AVRO_LOG_SEQ_MAX)
            return 0;
        if (end > first)
            end = first;
        what = (struct read_find){.by = READ_BY_SEQ, .seq = first - 1};
        if (reader->link.found.oldest_seq >= first)
            return 0;
    }
}

int reader_start_find_end(struct live_reader *reader, uint64_t *ret_end, monotonic *deadline)
{
    struct last_record last;
    int result = find_last(reader, &last, deadline);
    reader->opened_in = last.in_open;
    *ret_end = result > 0 && last.seq >= last.promised ? last.seq + 1 : last.promised;
    reader_log_leave(reader);
    return result < 0 ? result : 0;
}

static int at_last(struct live_reader *reader, bool behind, monotonic *deadline)
{
    struct last_record last;
    if (behind && reader->ring.has_commit) {
        reader->next_seq = reader->ring.commit.next_seq;
        return 0;
    }
    int found = find_last(reader, &last, deadline);
    if (found >= 0)
        reader->next_seq = found ? last.seq + behind : ring_end(reader);
    if (found >= 0 && (behind || !found) && last.promised > reader->next_seq)
        reader->next_seq = last.promised;
    return found < 0 ? found : 0;
}

static int at_time(struct live_reader *reader, int64_t time_ns, monotonic *deadline)
{
    struct read_find what = {.by = READ_BY_TIME, .time_ns = time_ns};
    for (;;) {
        struct avro_log_record record = {0};
        int result = enter(reader, &what, deadline);
        if (result == -ENOENT) /* nothing is as late */
            return at_last(reader, true, deadline);
        const monotonic entered = monotonic_now();
        uint64_t first = reader->link.found.first_seq;
        if (result == 0)
            result = segment_walk_seek_time(reader->segment.walk, time_ns);
        if (result == 0)
            result = segment_walk_next(reader->segment.walk, first, &record);
        was_reading(deadline, entered);
        if (result == WALK_RECORD) {
            reader->next_seq = (uint64_t)record.seq;
            return 0;
        }
        if (result < 0 && result != -EAGAIN && result != -EBADMSG)
            return result;
        what = (struct read_find){.by = READ_AFTER, .seq = first};
    }
}

static int at_position(struct live_reader *reader, bool else_at_end, monotonic *deadline)
{
    if (reader->started) { /* it may have gone back since */
        reader_link_ask(&reader->link, ASK_CLAIM, &reader->link.claim);
        int result = claim(reader, *deadline);
        if (result < 0)
            return result;
    }
    if (!reader->link.claimed.known)
        return else_at_end ? at_last(reader, true, deadline) : at_first(reader, deadline);
    reader->next_seq = reader->link.claimed.seq;
    return 0;
}

/* What comes out of the ring begins there: at the newest, behind it, or at a number. */
static int in_ring(struct live_reader *reader, const struct hf_start *start)
{
    const struct channel_public *page = reader->ring.map.page;
    uint64_t published = page ? channel_public_published(page) : 0;
    reader->begins_with_ring =
        !page && start->at != HF_SEQ && (start->at != HF_POSITION || !reader->link.claimed.known);
    reader->next_seq = reader->ring_end = published;
    reader->ring_read = page ? reader->ring.pair : 0;
    if (start->at == HF_SEQ)
        reader->next_seq = start->seq;
    else if (start->at == HF_POSITION && reader->link.claimed.known)
        reader->next_seq = reader->link.claimed.seq;
    else if (start->at != HF_END && reader->base.mode == HF_NEWEST && page &&
             published > page->start_seq)
        reader->next_seq = published - 1;
    return 0;
}

static int start_at(struct live_reader *reader, const struct hf_start *start, monotonic *deadline)
{
    bool only_new = reader->base.mode == HF_NEW && !reader->started; /* sought is sought */
    live_ring_pump(reader);
    live_ring_look(reader);
    if (live_reader_is_by_ring(reader))
        return in_ring(reader, start);
    if (start->at == HF_SEQ) {
        reader->next_seq = start->seq;
        return 0;
    }
    if (start->at == HF_POSITION)
        return at_position(reader, only_new, deadline);
    if (only_new || start->at == HF_END)
        return at_last(reader, true, deadline);
    if (start->at == HF_LAST)
        return at_last(reader, false, deadline);
    return start->at == HF_TIME ? at_time(reader, start->time_ns, deadline)
                                : at_first(reader, deadline);
}

int reader_start_at(struct live_reader *reader, const struct hf_start *start, monotonic *deadline)
{
    reader_log_leave(reader);
    reader->begins_with_ring = false;
    int result = start_at(reader, start, deadline);
    reader_log_leave(reader);
    reader->has_waited = false;
    if (result == 0) { /* the program has said where it wants to be now */
        reader->begins_anew = reader->looks_back = reader->asks_position = false;
        reader->awaits_ring = false;
        reader->passed_from = reader->next_seq;
        reader->by_ring = live_reader_is_by_ring(reader);
        reader->by_position = start->at == HF_POSITION && reader->link.claimed.known &&
                              reader->base.mode != HF_OLD && !reader->by_ring;
        reader->position = reader->link.claimed.seq;
    }
    return result;
}
