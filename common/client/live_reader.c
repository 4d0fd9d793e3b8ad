/* SPDX-License-Identifier: MIT */
/* Readers of a channel through the gate: what a program calls, on top of the log's and the ring's
 * reader. Called by handle.c. hf_next(), hf_check() and hf_lag() must never wait for the daemon;
 * the others wait no longer than their deadline. */
#include "common/client/live_reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/channel_public.h"
#include "common/client/gate_link.h"
#include "common/client/live_ring.h"
#include "common/client/live_state.h"
#include "common/client/reader_link.h"
#include "common/client/reader_log.h"
#include "common/client/reader_ring.h"
#include "common/client/reader_start.h"

/* The gate is told how far this reader is, no more often than that. So many datagrams may pass
 * before the clock is looked at, which costs more than a datagram. */
#define PROGRESS_NS    NS_PER_S
#define PROGRESS_EVERY 1024

/* ---- hf_next() ---- */

static void tell_progress(struct live_reader *reader)
{
    struct timespec now;
    reader->until_look = PROGRESS_EVERY;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (timespec_ns(&now) - reader->told_ns < PROGRESS_NS || reader->told_seq == reader->next_seq)
        return;
    reader->told_ns = timespec_ns(&now);
    reader->told_seq = reader->next_seq;
    reader_link_tell_progress(&reader->link, reader->next_seq);
}

/* The channel has been given a record section, or has lost it. */
static void change_kind(struct live_reader *reader)
{
    reader_log_leave(reader); /* what it holds is the other's */
    reader->by_ring = !reader->by_ring;
    reader->passed_from = reader->next_seq;
    reader->looks_back = reader->by_position = reader->asks_position = false;
    reader->ring.has_begun = false;
    reader->awaits_ring = !reader->by_ring;
    reader->begins_with_ring = false;
    if (reader->awaits_ring && reader->ring.map.page)
        live_ring_join_log(reader);
    if (reader->by_ring) {
        reader->begins_anew = false;
        if (reader->opened_seq != UINT64_MAX && reader->ring.former_end < reader->opened_seq)
            reader->ring.former_end = reader->opened_seq; /* where no ring was ever lent */
        reader_ring_follow_log(reader);
    }
}

static int next_of_its_kind(struct live_reader *reader, struct hf_datagram *ret)
{
    int result;
    do {
        if (live_reader_is_by_ring(reader) != reader->by_ring) {
            if (reader->by_ring && reader_ring_tell_rest(reader, ret))
                return HF_LOST;
            change_kind(reader);
        }
        result = reader->by_ring ? reader_ring_next(reader, ret) : reader_log_next(reader, ret);
    } while (result == LIVE_READER_CHANGED);
    return result;
}

static int reader_next(hf_reader *base, struct hf_datagram *ret)
{
    struct live_reader *reader = live_reader_of(base);
    int result = next_of_its_kind(reader, ret);
    if (result == HF_DATAGRAM)
        reader->newest_ns =
            (uint64_t)ret->time_ns > reader->newest_ns ? (uint64_t)ret->time_ns : reader->newest_ns;
    if (result != HF_DATAGRAM || --reader->until_look == 0)
        tell_progress(reader);
    if (result == HF_NONE)
        reader->link.stirred = false;
    return result;
}

static int reader_fd(hf_reader *base)
{
    return live_reader_of(base)->link.epoll;
}

static int reader_check(hf_reader *base, const struct hf_datagram *datagram)
{
    return reader_ring_is_whole(live_reader_of(base), datagram);
}

/* ---- hf_lag() ---- */

/* The syncer tells how far the file is on the disk, not how many datagrams that is: so what the
 * slot said of some moment is kept until the disk has come that far. */
static void note_durable(struct live_reader *reader)
{
    const struct commit_progress *commit = &reader->ring.commit;
    uint64_t done = channel_public_durable(reader->ring.map.page, reader->durable_id);
    if (reader->durable_id && done >= reader->durable_offset) {
        reader->durable_seq = reader->durable_candidate;
        reader->durable_id = 0;
    }
    if (channel_public_durable(reader->ring.map.page, commit->segment_id) >= commit->write_offset &&
        commit->segment_id)
        reader->durable_seq = commit->next_seq;
    if (reader->durable_id == commit->segment_id)
        return;
    reader->durable_id = commit->segment_id;
    reader->durable_offset = commit->write_offset;
    reader->durable_candidate = commit->next_seq;
}

static uint64_t received_end(const struct live_ring *ring)
{
    const uint64_t end = ring->map.page ? channel_public_published(ring->map.page) : UINT64_MAX;
    return end <= INT64_MAX ? end : UINT64_MAX;
}

static int reader_lag(hf_reader *base, struct hf_lag *ret)
{
    struct live_reader *reader = live_reader_of(base);
    const struct live_ring *ring = &reader->ring;
    live_ring_look(reader);
    *ret = (struct hf_lag){.next_seq = reader->next_seq,
                           .end_seq = reader->next_seq,
                           .opened_seq = reader->opened_seq == UINT64_MAX ? reader->next_seq
                                                                          : reader->opened_seq,
                           .newest_ns = (int64_t)reader->newest_ns,
                           .received_seq = received_end(ring)};
    if (live_reader_is_by_ring(reader)) {
        if (ret->received_seq != UINT64_MAX && ret->received_seq > ret->end_seq)
            ret->end_seq = ret->received_seq;
        return 0;
    }
    if (ring->has_commit) {
        if (ring->commit.next_seq > ret->end_seq)
            ret->end_seq = ring->commit.next_seq;
        note_durable(reader);
    }
    ret->durable_seq = reader->durable_seq;
    return 0;
}

/* ---- hf_seek(), hf_save() ---- */

static int reader_seek(hf_reader *base, const struct hf_start *start)
{
    struct live_reader *reader = live_reader_of(base);
    const uint64_t before = reader->next_seq;
    if (start->position && strcmp(start->position, reader->link.claim.name) != 0)
        return -EINVAL;
    monotonic deadline = monotonic_add(monotonic_now(), GATE_PATIENCE_NS);
    int result = reader_start_at(reader, start, &deadline);
    reader->link.armed = false; /* for a number that may be higher: hf_next() arms anew */
    reader_link_wake_at(&reader->link, monotonic_now()); /* to look there */
    if (result < 0)
        reader->next_seq = before;
    else
        reader->returned_any = reader->uncovered_told = false;
    return result;
}

/* The connection has the position, or says why not. */
static int hold_position(struct live_reader *reader, monotonic deadline)
{
    if (reader->claim_error == 0)
        return 0;
    reader->claim_error = 0; /* it may be free by now */
    reader_link_ask(&reader->link, ASK_CLAIM, &reader->link.claim);
    return reader_start_attach(reader, deadline);
}

static int reader_save(hf_reader *base, uint64_t done_before)
{
    struct live_reader *reader = live_reader_of(base);
    monotonic deadline = monotonic_add(monotonic_now(), GATE_PATIENCE_NS);
    struct read_position position = reader->link.claim;
    if (!position.name[0] || done_before > INT64_MAX)
        return -EINVAL;
    position.seq = done_before;
    int result;
    do {
        result = hold_position(reader, deadline);
        if (result == 0)
            result = reader_start_ask(reader, ASK_SAVE, &position, deadline);
        /* A connection that was made meanwhile has yet to get the position. */
    } while (result < 0 && result != -ETIMEDOUT && reader->claim_error == -EBUSY &&
             monotonic_now().ns < deadline.ns);
    if (reader->link.stirred) /* what came meanwhile was taken: the descriptor must tell of it */
        reader_link_wake_at(&reader->link, monotonic_now());
    if (result < 0)
        return result;
    if (reader->by_position)
        reader->position = done_before; /* still nothing was returned */
    reader->link.claimed.seq = done_before;
    reader->link.claimed.known = 1;
    return 0;
}

/* ---- opening and closing ---- */

static void reader_close(hf_reader *base)
{
    struct live_reader *reader = live_reader_of(base);
    reader_log_leave(reader);
    live_ring_close(reader);
    reader_link_close(&reader->link);
    free(reader->copy);
    free(reader);
}

static const struct reader_kind live_kind = {.next = reader_next,
                                             .fd = reader_fd,
                                             .check = reader_check,
                                             .seek = reader_seek,
                                             .save = reader_save,
                                             .lag = reader_lag,
                                             .close = reader_close};

/* What the channel can't do. */
static int check_mode(const struct live_reader *reader)
{
    bool old = reader->base.mode == HF_OLD || reader->base.mode == HF_JOINED;
    return old && !reader->records ? -EOPNOTSUPP : 0;
}

static void note_end(struct live_reader *reader, monotonic *deadline)
{
    const struct live_ring *ring = &reader->ring;
    uint64_t end;
    reader->opened_seq = UINT64_MAX;
    if (ring->has_commit)
        reader->opened_seq = ring->commit.next_seq;
    else if (!reader->by_ring && reader_start_find_end(reader, &end, deadline) == 0)
        reader->opened_seq = end;
    if (live_reader_is_by_ring(reader) && ring->map.page)
        reader->opened_seq = channel_public_published(ring->map.page);
}

static int open_reader(struct live_reader *reader, const struct sockaddr_un *address,
                       const char *channel, const struct hf_start *start)
{
    monotonic deadline = monotonic_add(monotonic_now(), GATE_PATIENCE_NS);
    struct read_attach attach = {.mode = reader->base.mode};
    struct read_position claim = {0};
    snprintf(attach.channel, sizeof attach.channel, "%s", channel);
    snprintf(claim.channel, sizeof claim.channel, "%s", channel);
    snprintf(claim.name, sizeof claim.name, "%s", start->position ? start->position : "");
    int result = reader_link_open(&reader->link, address, &attach, &claim);
    if (result == 0)
        result = reader_start_attach(reader, deadline);
    if (result == 0)
        result = check_mode(reader);
    if (result < 0)
        return result;
    note_end(reader, &deadline);
    return reader_start_at(reader, start, &deadline);
}

int live_reader_open(const struct sockaddr_un *address, const char *channel,
                     const struct hf_start *start, unsigned mode, hf_reader **ret)
{
    struct live_reader *reader = calloc(1, sizeof *reader);
    *ret = NULL;
    if (!reader)
        return -ENOMEM;
    reader->base.kind = &live_kind;
    reader->base.mode = mode;
    reader->until_look = PROGRESS_EVERY;
    reader->old_end = reader->opened_in = UINT64_MAX;
    reader->link.epoll = reader->link.socket = reader->link.timer = -1;
    reader->link.attached_fd = reader->link.found_fd = -1;
    int result = open_reader(reader, address, channel, start);
    if (result < 0) {
        reader_close(&reader->base);
        return result;
    }
    reader->started = true;
    *ret = &reader->base;
    return 0;
}
