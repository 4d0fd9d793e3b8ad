/* SPDX-License-Identifier: MIT */
/* Reads files as one recording. Called through the public functions. One file is open at a time.
 * Whatever is missing between two records is told before the second one, and why, as far as files
 * show it; a number must never come twice, nor go missing silently. */
#include "common/client/offline_read.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/avro_log_end.h"
#include "common/avro_log_header.h"
#include "common/client/offline_files.h"
#include "common/client/record.h"
#include "common/client/segment_walk.h"
#include "common/fd.h"

struct loss {
    uint64_t seq, count;
    uint32_t why;
};

struct offline_reader {
    struct hf_reader base;
    const struct offline_channel *channel;
    size_t file; /* the one that is walked, or comes next */
    struct segment_walk *walk;
    uint64_t floor;       /* lower numbers are not wanted, or were returned */
    uint64_t due;         /* what comes next when nothing is missing */
    uint64_t position;    /* what the program comes to next */
    uint64_t end;         /* when it was opened */
    uint32_t before_file; /* why numbers are missing that lie before the file */
    bool fresh;           /* no datagram was returned since it was opened, or since a seek */
    uint8_t log_id[AVRO_LOG_ID_SIZE]; /* of the file that said last what it belongs to */

    struct loss losses[2]; /* to be told first */
    size_t loss_count, loss_next;
    bool has_record; /* to be returned then: */
    struct avro_log_record record;
    struct record_source source;
    int64_t newest_ns;
};

/* ---- files ---- */

/* A segment that was made and not begun has no header yet. */
static bool is_blank(const struct offline_file *file)
{
    int fd = file->open ? offline_file_open(file) : -1;
    if (fd < 0)
        return false;
    bool is = avro_log_is_blank(fd) > 0;
    fd_close(&fd);
    return is;
}

static bool are_of_two_recordings(const uint8_t *a, const uint8_t *b)
{
    return avro_log_id_is_known(a) && avro_log_id_is_known(b) &&
           memcmp(a, b, AVRO_LOG_ID_SIZE) != 0;
}

/* An unfinished file's end: what its successor has recorded elsewhere may lie here, too, and was
 * not committed here. A file of another recording, put here by somebody, is no successor; behind
 * one, the end that was found last is not that of this recording. */
static uint64_t find_bound(const struct offline_channel *channel, size_t index,
                           const uint8_t *log_id, uint64_t end)
{
    const struct offline_file *files = channel->files;
    struct avro_log_identity next;
    for (size_t i = index + 1; i < channel->count; i++) {
        if (files[i].first_seq <= files[index].first_seq)
            continue;
        if (!offline_file_identify(&files[i], &next, NULL) ||
            !are_of_two_recordings(next.log_id, log_id))
            return files[i].first_seq;
        end = UINT64_MAX;
    }
    return end;
}

static int open_walk(const struct offline_channel *channel, size_t index, uint64_t end,
                     struct segment_walk **ret)
{
    const struct offline_file *file = &channel->files[index];
    struct segment_limit limit = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
    const char *what;
    *ret = NULL;
    int fd = offline_file_open(file);
    if (fd < 0)
        return fd;
    int result = segment_walk_open(fd, file->open, ret, &what);
    if (result < 0)
        return result;
    if (!file->open)
        return 0;
    limit.seq_end = find_bound(channel, index, segment_walk_identity(*ret)->log_id, end);
    segment_walk_set_limit(*ret, &limit);
    return 0;
}

static void close_walk(struct offline_reader *reader)
{
    reader->walk = segment_walk_close(reader->walk);
}

/* ---- the end ---- */

uint64_t offline_find_end(const struct offline_channel *channel)
{
    uint64_t end = 0, seq = 0;
    size_t i = channel->count;
    int found = 0;
    for (size_t j = 0; j < i; j++)
        if (channel->files[j].end_seq > end)
            end = channel->files[j].end_seq;
    while (i-- > 0 && found <= 0) {
        struct segment_walk *walk;
        found = open_walk(channel, i, UINT64_MAX, &walk);
        if (found == 0)
            found = segment_walk_seek_last(walk, UINT64_MAX, &seq);
        uint64_t by_header = walk ? segment_walk_end_by_header(walk) : 0;
        if (by_header > end)
            end = by_header;
        if (found > 0 && seq >= end)
            end = seq + 1;
        if (channel->files[i].first_seq > end)
            end = channel->files[i].first_seq;
        segment_walk_close(walk);
    }
    return end;
}

/* ---- what is missing ---- */

static void lose(struct offline_reader *reader, uint64_t end, uint32_t why)
{
    if (reader->due >= end)
        return;
    struct loss *before = reader->loss_count > 0 ? &reader->losses[reader->loss_count - 1] : NULL;
    if (before && before->why == why)
        before->count += end - reader->due;
    else
        reader->losses[reader->loss_count++] =
            (struct loss){.seq = reader->due, .count = end - reader->due, .why = why};
    reader->due = end;
}

/* Nothing with a lower number than `end` comes any more: some of it, as a rule none, lay before
 * this file, and the rest was in it or was never recorded. */
static void lose_up_to(struct offline_reader *reader, uint64_t end, uint32_t why)
{
    const uint64_t begin = reader->channel->files[reader->file].first_seq;
    lose(reader, begin < end ? begin : end, reader->before_file);
    lose(reader, end, why);
}

static void take_record(struct offline_reader *reader)
{
    const uint64_t seq = (uint64_t)reader->record.seq;
    if (seq > reader->due)
        lose_up_to(reader, seq,
                   segment_walk_passed_damage(reader->walk) ? HF_DAMAGED : HF_UNRECORDED);
    reader->has_record = true;
}

/* No more records in this file. What it should have, by its header, is damaged. Where no header
 * says that, the next file's first number does. (Not inlined, nor is open_next(): each record's way
 * would pay for their registers and buffers.) */
static __attribute__((noinline)) void end_file(struct offline_reader *reader)
{
    lose_up_to(reader, segment_walk_end_by_header(reader->walk), HF_DAMAGED);
    bool is_whole = segment_walk_identity(reader->walk)->has_totals &&
                    !segment_walk_passed_damage(reader->walk);
    reader->before_file = is_whole ? HF_UNRECORDED : HF_DAMAGED;
    if (reader->due > reader->floor)
        reader->floor = reader->due;
    close_walk(reader);
    reader->file++;
}

/* A file that can't be opened. 0: it is passed over. */
static int pass_file(struct offline_reader *reader, int error)
{
    if (error == -ENOENT)
        reader->before_file = HF_EXPIRED; /* removed since the handle was opened */
    else if (error != -EBADMSG)
        return error;
    else if (!is_blank(&reader->channel->files[reader->file]))
        reader->before_file = HF_DAMAGED;
    reader->file++;
    return 0;
}

/* ---- starts ---- */

static void go_to(struct offline_reader *reader, size_t file, uint64_t floor, uint64_t due)
{
    close_walk(reader);
    reader->file = file;
    reader->floor = floor;
    reader->due = reader->position = due;
    reader->before_file = HF_EXPIRED;
    reader->fresh = true;
    memset(reader->log_id, 0, sizeof reader->log_id);
    reader->has_record = false;
    reader->loss_count = reader->loss_next = 0;
}

static void go_to_end(struct offline_reader *reader)
{
    go_to(reader, reader->channel->count, reader->end, reader->end);
}

static int start_at_last(struct offline_reader *reader)
{
    for (size_t i = reader->channel->count; i-- > 0;) {
        struct segment_walk *walk;
        uint64_t seq = 0;
        int result = open_walk(reader->channel, i, reader->end, &walk);
        if (result == 0)
            result = segment_walk_seek_last(walk, UINT64_MAX, &seq);
        segment_walk_close(walk);
        if (result > 0) {
            go_to(reader, i, seq, seq);
            return 0;
        }
        if (result < 0 && result != -ENOENT && result != -EBADMSG)
            return result;
    }
    go_to_end(reader);
    return 0;
}

/* In this file: 1 and the number of the first record of this time, 0 when it has none. */
static int find_time(const struct offline_reader *reader, size_t index, int64_t time_ns,
                     uint64_t *ret_seq)
{
    struct segment_walk *walk;
    struct avro_log_record record = {.seq = 0};
    int result = open_walk(reader->channel, index, reader->end, &walk);
    if (result == 0)
        result = segment_walk_seek_time(walk, time_ns);
    if (result == 0)
        result = segment_walk_next(walk, 0, &record);
    if (result == WALK_RECORD)
        *ret_seq = (uint64_t)record.seq;
    segment_walk_close(walk);
    return result == -ENOENT || result == -EBADMSG ? 0 : result;
}

static int start_at_time(struct offline_reader *reader, int64_t time_ns)
{
    const struct offline_channel *channel = reader->channel;
    uint64_t seq = 0;
    size_t i = offline_channel_find_time(channel, time_ns > 0 ? (uint64_t)time_ns : 0);
    for (; i < channel->count; i++) {
        int result = find_time(reader, i, time_ns, &seq);
        if (result < 0)
            return result;
        if (result > 0) {
            go_to(reader, i, seq, seq);
            return 0;
        }
    }
    go_to_end(reader);
    return 0;
}

static int begin(struct offline_reader *reader, const struct hf_start *start)
{
    if (start->at == HF_POSITION || start->position)
        return -EOPNOTSUPP; /* positions are the daemon's */
    switch (start->at) {
    case HF_FIRST:
        go_to(reader, 0, 0, reader->channel->files[0].first_seq);
        return 0;
    case HF_LAST:
        return start_at_last(reader);
    case HF_SEQ:
        if (start->seq < reader->end)
            go_to(reader, offline_channel_find_seq(reader->channel, start->seq), start->seq,
                  start->seq);
        else
            go_to(reader, reader->channel->count, start->seq, start->seq);
        return 0;
    case HF_TIME:
        return start_at_time(reader, start->time_ns);
    default:
        go_to_end(reader);
        return 0;
    }
}

/* ---- reading ---- */

static int tell_loss(struct offline_reader *reader, struct hf_datagram *ret)
{
    const struct loss *loss = &reader->losses[reader->loss_next++];
    memset(ret, 0, sizeof *ret);
    ret->seq = loss->seq;
    ret->lost = loss->count;
    ret->why = loss->why;
    reader->position = loss->seq + loss->count;
    if (reader->loss_next == reader->loss_count)
        reader->loss_next = reader->loss_count = 0;
    return HF_LOST;
}

static int tell_uncovered(struct offline_reader *reader, struct hf_datagram *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->seq = (uint64_t)reader->record.seq;
    ret->why = HF_UNCOVERED;
    reader->fresh = true; /* told: the datagram is next */
    return HF_LOST;
}

static int give_record(struct offline_reader *reader, struct hf_datagram *ret)
{
    if ((reader->record.flags & AVRO_LOG_NOT_COVERED) && !reader->fresh)
        return tell_uncovered(reader, ret);
    record_to_datagram(&reader->record, &reader->source, ret);
    reader->has_record = reader->fresh = false;
    reader->newest_ns = ret->time_ns;
    reader->floor = reader->due = reader->position = ret->seq + 1;
    return HF_DATAGRAM;
}

/* Is the file that was opened part of another recording than those before it? */
static bool is_of_another_recording(struct offline_reader *reader)
{
    const uint8_t *log_id = segment_walk_identity(reader->walk)->log_id;
    if (!avro_log_id_is_known(log_id))
        return false;
    bool is_other = are_of_two_recordings(log_id, reader->log_id);
    memcpy(reader->log_id, log_id, sizeof reader->log_id);
    return is_other;
}

/* Somebody has put it into this folder. Its numbers have nothing to do with those that came: none
 * was returned, and none is missing before it. */
static void begin_anew(struct offline_reader *reader)
{
    reader->due = reader->floor = reader->channel->files[reader->file].first_seq;
    reader->losses[reader->loss_count++] = (struct loss){.seq = reader->due, .why = HF_UNCOVERED};
    reader->fresh = true;
}

/* The file that comes next. 0, or -errno: tried again at the next call. */
static __attribute__((noinline)) int open_next(struct offline_reader *reader)
{
    int result = open_walk(reader->channel, reader->file, reader->end, &reader->walk);
    if (result < 0)
        return pass_file(reader, result);
    if (is_of_another_recording(reader))
        begin_anew(reader);
    if (reader->floor <= reader->channel->files[reader->file].first_seq)
        return 0;
    result = segment_walk_seek_seq(reader->walk, reader->floor);
    if (result < 0)
        close_walk(reader);
    return result;
}

/* All files were read. What was there when the reader was opened, and did not come, is told. */
static int finish(struct offline_reader *reader)
{
    lose(reader, reader->end, reader->before_file);
    return reader->loss_count == 0 ? HF_FINISHED : 0;
}

/* 0: a record, a loss, or neither yet; HF_FINISHED; or -errno. */
static int read_on(struct offline_reader *reader)
{
    if (!reader->walk)
        return reader->file < reader->channel->count ? open_next(reader) : finish(reader);
    int result = segment_walk_next(reader->walk, reader->floor, &reader->record);
    if (result == WALK_RECORD)
        take_record(reader);
    else if (result == WALK_END)
        end_file(reader);
    return result < 0 ? result : 0;
}

static int next(hf_reader *base, struct hf_datagram *ret)
{
    struct offline_reader *reader = (struct offline_reader *)base;
    while (reader->loss_count == 0 && !reader->has_record) {
        int result = read_on(reader);
        if (result != 0)
            return result;
    }
    return reader->loss_count > 0 ? tell_loss(reader, ret) : give_record(reader, ret);
}

static int seek(hf_reader *base, const struct hf_start *start)
{
    return begin((struct offline_reader *)base, start);
}

static int lag(hf_reader *base, struct hf_lag *ret)
{
    const struct offline_reader *reader = (struct offline_reader *)base;
    *ret = (struct hf_lag){.next_seq = reader->position,
                           .end_seq = reader->end,
                           .opened_seq = reader->end,
                           .newest_ns = reader->newest_ns,
                           .received_seq = UINT64_MAX};
    return 0;
}

static void close_reader(hf_reader *base)
{
    close_walk((struct offline_reader *)base);
    free(base);
}

static const struct reader_kind offline_reader_kind = {
    .next = next, .seek = seek, .lag = lag, .close = close_reader};

int offline_read(const struct offline_channel *channel, const struct hf_start *start, unsigned mode,
                 hf_reader **ret)
{
    if (mode != HF_OLD && mode != HF_JOINED)
        return -EOPNOTSUPP;
    struct offline_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return -ENOMEM;
    reader->base.kind = &offline_reader_kind;
    reader->channel = channel;
    reader->end = offline_find_end(channel);
    int result = begin(reader, start);
    if (result < 0) {
        close_reader(&reader->base);
        return result;
    }
    *ret = &reader->base;
    return 0;
}
