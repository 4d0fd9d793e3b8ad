/* SPDX-License-Identifier: MIT */
/* Reads several recordings as one. Called by cat, export, replay and info. Each is read in its own
 * order, which numbers decide; between them, receive times do. What a reader reports as lost is
 * handed out at its place and never swallowed. */
#include "supervisor/ctl/ctl_stream.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/monotonic.h"
#include "supervisor/ctl/ctl_stop.h"
#include "supervisor/ctl/ctl_text.h"

/* Idle streams are looked at after so many datagrams of busy ones. */
#define TURNS_MAX 64
/* At that time, and then so often until all of it has come. */
#define LOOK_AGAIN_MS 50
/* What is followed up to a time is waited for a little longer: it may be under way. */
#define END_GRACE_NS NS_PER_S

/* ---- where each begins ---- */

/* By what the channel is, not by how it was asked for. */
static int complain_cannot(const struct ctl_source *source, const char *what)
{
    ctl_complain("%s: %s", source->info.name, what);
    return CTL_NO;
}

static void set_start(const struct ctl_streams_setup *setup, const struct hf_channel *channel,
                      struct hf_start *ret)
{
    const struct ctl_bound *from = &setup->range->from;
    *ret = (struct hf_start){.at = HF_FIRST, .position = setup->position};
    switch (from->kind) {
    case CTL_BOUND_SEQ:
        ret->at = HF_SEQ;
        ret->seq = from->seq;
        return;
    case CTL_BOUND_TIME:
        ret->at = HF_TIME;
        ret->time_ns = from->time_ns;
        return;
    case CTL_BOUND_NEW:
        ret->at = HF_END;
        return;
    case CTL_BOUND_FIRST:
        return;
    case CTL_BOUND_NONE:
        break;
    }
    if (setup->position) {
        ret->at = HF_POSITION;
    } else if (setup->follow) {
        ret->at = HF_SEQ;
        ret->seq = channel->end_seq > setup->tail ? channel->end_seq - setup->tail : 0;
        if (ret->seq < channel->first_seq)
            ret->seq = channel->first_seq;
    }
}

/* The mode that does it; CTL_OK, or the exit status with everything printed. */
static int choose_mode(const struct ctl_streams_setup *setup, const struct ctl_source *source,
                       struct hf_start *start, unsigned *ret)
{
    const uint32_t can = source->info.can;
    const enum ctl_bound_kind from = setup->range->from.kind;
    *ret = 0;
    if (setup->follow && source->is_files) {
        ctl_complain("%s: a file can't be followed, only a channel of a running holdfastd: name "
                     "the channel instead, or leave -f out",
                     source->info.name);
        return CTL_USAGE;
    }
    if (!setup->follow) {
        *ret = can & HF_CAN_OLD ? HF_OLD : 0;
        if (*ret)
            return CTL_OK;
        return complain_cannot(source, setup->can_follow
                                           ? "it does not record, so there is nothing to read "
                                             "again; follow what comes with -f"
                                           : "it does not record, so there is nothing to read "
                                             "again; record { } in its configuration keeps what "
                                             "comes, and 'holdfastctl cat -f' shows it");
    }
    if (from == CTL_BOUND_NEW && (can & HF_CAN_NEW))
        *ret = HF_NEW;
    else if ((can & HF_CAN_OLD) && (can & HF_CAN_NEW) && from != CTL_BOUND_NEW)
        *ret = HF_JOINED;
    if (*ret)
        return CTL_OK;
    if (from != CTL_BOUND_NEW && from != CTL_BOUND_NONE)
        return complain_cannot(source,
                               "it does not record: only what comes can be read, with --from new");
    *start = (struct hf_start){.at = HF_END, .position = setup->position};
    *ret = can & HF_CAN_NEW ? HF_NEW : can & HF_CAN_NEWEST ? HF_NEWEST : 0;
    return *ret ? CTL_OK
                : complain_cannot(source,
                                  "it can't be followed: 'holdfastctl status' shows how it is");
}

static int complain_open(const struct ctl_streams_setup *setup, const struct ctl_source *source,
                         int error)
{
    if (error == -EBUSY && setup->position) {
        ctl_complain("%s: another reader has the position '%s': 'holdfastctl readers' shows who "
                     "reads; use another name, or wait until it ends",
                     source->info.name, setup->position);
        return CTL_NO;
    }
    if (error == -EOPNOTSUPP && setup->position && source->is_files) {
        ctl_complain(
            "%s: files have no positions, only channels of a running holdfastd have: leave "
            "--position out",
            source->info.name);
        return CTL_USAGE;
    }
    return ctl_complain_read(source->info.name, error);
}

static int open_stream(struct ctl_streams *streams, const struct ctl_source *source)
{
    const struct ctl_streams_setup *setup = &streams->setup;
    struct hf_start start;
    struct hf_lag lag;
    struct ctl_stream *stream = &streams->list[streams->count];
    set_start(setup, &source->info, &start);
    if (setup->position && source->is_files)
        return complain_open(setup, source, -EOPNOTSUPP);
    unsigned mode;
    int status = choose_mode(setup, source, &start, &mode);
    if (status != CTL_OK)
        return status;
    int result = hf_read(source->handle, source->info.name, &start, mode, &stream->reader);
    if (result < 0)
        return complain_open(setup, source, result);
    stream->source = source;
    stream->is_live = mode != HF_JOINED;
    streams->fds[streams->count].fd = -1;
    streams->fds[streams->count++].events = POLLIN;
    if (!source->is_files)
        streams->fds[streams->count - 1].fd = hf_reader_fd(stream->reader);
    if (hf_lag(stream->reader, &lag) == 0) {
        stream->begin_seq = stream->done = lag.next_seq;
        stream->end_seq =
            setup->range->to.kind == CTL_BOUND_SEQ && setup->range->to.seq < lag.opened_seq
                ? setup->range->to.seq + 1
                : lag.opened_seq;
    }
    return CTL_OK;
}

int ctl_streams_open(struct ctl_streams *streams, const struct ctl_streams_setup *setup)
{
    *streams = (struct ctl_streams){.setup = *setup};
    const size_t count = setup->sources->count;
    streams->list = calloc(count + 1, sizeof *streams->list);
    streams->fds = calloc(count + 1, sizeof *streams->fds);
    if (!streams->list || !streams->fds) {
        ctl_complain("memory is short");
        return CTL_NO;
    }
    if (setup->range->from.kind == CTL_BOUND_NEW && !setup->follow) {
        ctl_complain("--from new: nothing of it has been recorded yet: follow it with -f");
        return CTL_USAGE;
    }
    int status = CTL_OK;
    for (size_t i = 0; i < count && status == CTL_OK; i++)
        status = open_stream(streams, &setup->sources->list[i]);
    return status;
}

void ctl_streams_close(struct ctl_streams *streams)
{
    for (size_t i = 0; i < streams->count; i++)
        streams->list[i].reader = hf_reader_close(streams->list[i].reader);
    free(streams->list);
    free(streams->fds);
    *streams = (struct ctl_streams){0};
}

/* ---- reading ---- */

static bool is_behind_end(const struct ctl_bounds *range, const struct hf_datagram *datagram)
{
    if (range->to.kind == CTL_BOUND_SEQ)
        return datagram->seq > range->to.seq;
    return range->to.kind == CTL_BOUND_TIME && datagram->time_ns >= range->to.time_ns;
}

/* What isn't there is told as far as it was wanted. */
static bool take_loss(struct ctl_streams *streams, struct ctl_stream *stream)
{
    const struct ctl_bounds *range = streams->setup.range;
    struct hf_datagram *head = &stream->head;
    if (range->to.kind == CTL_BOUND_SEQ) {
        stream->is_finished = head->seq > range->to.seq;
        if (!stream->is_finished && head->lost > range->to.seq - head->seq)
            head->lost = range->to.seq - head->seq + 1;
    }
    return !stream->is_finished;
}

static bool is_before_start(const struct ctl_bounds *range, const struct hf_datagram *datagram)
{
    return range->from.kind == CTL_BOUND_SEQ && datagram->seq < range->from.seq;
}

static bool take_datagram(struct ctl_streams *streams, struct ctl_stream *stream)
{
    const struct ctl_bounds *range = streams->setup.range;
    if (!hf_check(stream->reader, &stream->head))
        return false; /* its memory was used anew while it was copied */
    if (is_behind_end(range, &stream->head)) {
        stream->is_finished = true;
        return false;
    }
    if (!is_before_start(range, &stream->head) &&
        ctl_bounds_has_source(range, &stream->head.source))
        return true;
    stream->done = stream->head.seq + 1;
    return false;
}

static void fail(struct ctl_streams *streams, struct ctl_stream *stream, int error)
{
    streams->failed = true;
    stream->is_finished = true;
    ctl_complain("%s: reading ends before number %" PRIu64 ": %s", stream->source->info.name,
                 stream->done, strerror(-error));
}

/* Read on until it has a head, or none for now. HF_LOST when the head is a loss. */
static int read_on(struct ctl_streams *streams, struct ctl_stream *stream)
{
    while (!stream->has_head && !stream->is_idle && !stream->is_finished) {
        int result = hf_next(stream->reader, &stream->head);
        switch (result) {
        case HF_DATAGRAM:
            stream->has_head = take_datagram(streams, stream);
            break;
        case HF_LOST:
            if (take_loss(streams, stream))
                return HF_LOST;
            break;
        case HF_NONE:
            stream->is_idle = true;
            break;
        case HF_LIVE:
            stream->is_live = true;
            break;
        case HF_FINISHED:
            stream->is_finished = true;
            break;
        default:
            fail(streams, stream, result);
        }
        if (ctl_stop_is_asked())
            break;
    }
    return stream->has_head ? HF_DATAGRAM : HF_NONE;
}

static void let_go(struct ctl_streams *streams)
{
    struct ctl_stream *stream = streams->current;
    if (!stream)
        return;
    if (stream->has_head)
        stream->done = stream->head.seq + 1;
    else
        stream->done = stream->head.seq + stream->head.lost;
    stream->has_head = false;
    streams->current = NULL;
}

static void look_at_idle_ones(struct ctl_streams *streams)
{
    streams->turns = 0;
    if (poll(streams->fds, streams->count, 0) <= 0)
        return;
    for (size_t i = 0; i < streams->count; i++)
        if (streams->fds[i].revents)
            streams->list[i].is_idle = false;
}

/* Of a range that ends at a time, how long what comes may still be in it. INT64_MAX: for ever. */
static int64_t time_left_ns(const struct ctl_streams *streams)
{
    const struct ctl_bound *to = &streams->setup.range->to;
    if (!streams->setup.follow || to->kind != CTL_BOUND_TIME)
        return INT64_MAX;
    const int64_t over = (int64_t)(realtime_now_ns() - END_GRACE_NS);
    return to->time_ns > over ? to->time_ns - over : 0;
}

/* Everything that was there has been read; *ret_known: or nobody can say what there is. */
static bool has_caught_up(const struct ctl_stream *stream, bool *ret_known)
{
    struct hf_lag lag = {0};
    *ret_known = true;
    if (stream->is_finished || !stream->is_live || hf_lag(stream->reader, &lag) < 0)
        return stream->is_finished;
    *ret_known = lag.received_seq != UINT64_MAX;
    return lag.end_seq <= lag.next_seq && (!*ret_known || lag.received_seq <= lag.next_seq);
}

/* Nothing is to be had: will that be so? */
static int end_or_wait(const struct ctl_streams *streams)
{
    bool known;
    if (time_left_ns(streams) > 0)
        return HF_NONE;
    for (size_t i = 0; i < streams->count; i++)
        if (!has_caught_up(&streams->list[i], &known))
            return HF_NONE;
    for (size_t i = 0; i < streams->count; i++)
        if (has_caught_up(&streams->list[i], &known) && !known &&
            (streams->list[i].source->info.can & HF_CAN_OLD))
            ctl_complain("%s: whether more was received before the end can't be seen just now: the "
                         "channel is stopped, or its log is being recovered",
                         streams->list[i].source->info.name);
    return HF_FINISHED;
}

int ctl_streams_next(struct ctl_streams *streams, struct ctl_stream **ret)
{
    struct ctl_stream *oldest = NULL;
    bool all_finished = true;
    let_go(streams);
    if (streams->setup.follow && ++streams->turns >= TURNS_MAX)
        look_at_idle_ones(streams);
    for (size_t i = 0; i < streams->count; i++) {
        struct ctl_stream *stream = &streams->list[i];
        if (read_on(streams, stream) == HF_LOST) {
            *ret = streams->current = stream;
            return HF_LOST;
        }
        all_finished &= stream->is_finished && !stream->has_head;
        if (stream->has_head && (!oldest || stream->head.time_ns < oldest->head.time_ns))
            oldest = stream;
    }
    if (!oldest)
        return all_finished ? HF_FINISHED : end_or_wait(streams);
    *ret = streams->current = oldest;
    return HF_DATAGRAM;
}

int ctl_streams_take(struct ctl_streams *streams, struct ctl_stream **ret)
{
    int what;
    while ((what = ctl_streams_next(streams, ret)) == HF_NONE && !ctl_stop_is_asked())
        ctl_streams_wait(streams, -1, -1);
    return what;
}

int ctl_streams_seek(struct ctl_streams *streams, int64_t time_ns)
{
    const struct ctl_bound *from = &streams->setup.range->from;
    streams->current = NULL;
    for (size_t i = 0; i < streams->count; i++) {
        struct ctl_stream *stream = &streams->list[i];
        struct hf_start start;
        set_start(&streams->setup, &stream->source->info, &start);
        if (time_ns != INT64_MIN && (from->kind != CTL_BOUND_TIME || time_ns > from->time_ns))
            start = (struct hf_start){.at = HF_TIME, .time_ns = time_ns};
        int result = hf_seek(stream->reader, &start);
        if (result < 0)
            return result;
        stream->has_head = stream->is_idle = stream->is_finished = false;
    }
    return 0;
}

bool ctl_streams_wait(struct ctl_streams *streams, int fd, int timeout_ms)
{
    struct pollfd *last = &streams->fds[streams->count];
    const int64_t left_ms = time_left_ns(streams) / (int64_t)NS_PER_MS + LOOK_AGAIN_MS;
    *last = (struct pollfd){.fd = fd};
    if (left_ms < INT_MAX && (timeout_ms < 0 || left_ms < timeout_ms))
        timeout_ms = (int)left_ms;
    streams->turns = 0;
    if (ctl_stop_poll(streams->fds, streams->count + 1, timeout_ms) == 0)
        return false;
    for (size_t i = 0; i < streams->count; i++)
        if (streams->fds[i].revents)
            streams->list[i].is_idle = false;
    return (last->revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
}

void ctl_streams_progress(const struct ctl_streams *streams, uint64_t *ret_done,
                          uint64_t *ret_total)
{
    *ret_done = *ret_total = 0;
    for (size_t i = 0; i < streams->count; i++) {
        const struct ctl_stream *stream = &streams->list[i];
        if (stream->done > stream->begin_seq)
            *ret_done += stream->done - stream->begin_seq;
        if (stream->end_seq > stream->begin_seq)
            *ret_total += stream->end_seq - stream->begin_seq;
    }
}

void ctl_streams_tell_loss(const struct ctl_streams *streams, const struct ctl_stream *stream)
{
    const struct hf_datagram *loss = &stream->head;
    const char *name = streams->count > 1 ? stream->source->info.name : "";
    const char *colon = name[0] ? ": " : "";
    if (loss->why == HF_UNCOVERED)
        ctl_complain("%s%snobody was receiving for a while before number %" PRIu64
                     ": what was sent then is not known",
                     name, colon, loss->seq);
    else if (loss->lost == 0)
        ctl_complain("%s%slost some datagrams from number %" PRIu64 ": %s", name, colon, loss->seq,
                     hf_why_text(loss->why));
    else
        ctl_complain("%s%slost %" PRIu64 " datagram%s from number %" PRIu64 ": %s", name, colon,
                     loss->lost, loss->lost == 1 ? "" : "s", loss->seq, hf_why_text(loss->why));
}

void ctl_streams_tell_nothing(const struct ctl_streams *streams)
{
    const struct ctl_bounds *range = streams->setup.range;
    if (range->from.kind == CTL_BOUND_NONE && range->to.kind == CTL_BOUND_NONE &&
        !range->has_source)
        return;
    for (size_t i = 0; i < streams->count; i++) {
        const struct hf_channel *info = &streams->list[i].source->info;
        if (info->end_seq > info->first_seq)
            ctl_complain("%s: nothing of what was asked for is in it; it has the numbers %" PRIu64
                         " to %" PRIu64,
                         info->name, info->first_seq, info->end_seq - 1);
        else
            ctl_complain("%s: there is nothing in it", info->name);
    }
}
