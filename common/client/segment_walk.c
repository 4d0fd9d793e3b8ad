/* SPDX-License-Identifier: MIT */
/* Walks through a segment. Called by both kinds of readers. The fast way takes blocks that are
 * exactly as the recorder writes them; whatever deviates, is left to avro_log_scan(), so that two
 * ways of reading never give two answers. Must never pass on a record whose CRC wasn't right when
 * it was in our own memory. */
#include "common/client/segment_walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/avro_log_format.h"
#include "common/avro_log_scan.h"
#include "common/avro_log_window.h"
#include "common/client/segment_bytes.h"
#include "common/client/segment_search.h"
#include "common/client/segment_slow.h"
#include "common/fd.h"

#define OVERHEAD ((uint64_t)AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_SYNC_SIZE)
/* Where one block after the other is damaged, so many records are scanned for at once. */
#define SLOW_MOST ((size_t)16 * 1024)

/* Not inlined: each record's way would pay for its buffers and registers. */
#define UNUSUAL __attribute__((noinline))

_Static_assert(SEGMENT_BYTES_SIZE > AVRO_LOG_BLOCK_MAX, "the longest block fits");

struct segment_walk {
    struct segment_bytes bytes;
    struct avro_log_identity identity;
    uint64_t header_size;
    uint64_t first_due; /* the first block's record may not have a higher number, without a look */
    struct segment_limit limit;
    bool unfinished;
    bool damaged;
    bool passed_damage; /* since the last record */
    bool has_returned;  /* a record, the last time */
    bool ended;         /* until the limit moves */

    uint64_t floor;             /* lower numbers were delivered, or are not wanted */
    struct segment_place place; /* the block that is walked, or comes next */
    bool in_block;
    uint64_t at;        /* in_block: of the next record */
    uint64_t block_end; /* where its marker is; UINT64_MAX: it isn't sealed yet */
    uint64_t held_end;  /* all up to here is in memory; 0: to be looked for */
    uint64_t count;     /* records, as its header says */
    uint64_t seen;      /* so many were there */
    uint64_t due;       /* the next one's number; 0 = not known */
    const char *what;   /* of the last read; a local one would put a guard on each call's stack */

    struct segment_slow slow;
    bool is_slow;     /* records of `slow` are delivered */
    bool limit_moved; /* since they were found */
    size_t slow_most;
};

/* ---- opening ---- */

static int stop_at_record(void *context, const struct avro_log_found *found)
{
    (void)context;
    (void)found;
    return 1;
}

/* The header is damaged: does avro_log_scan() find the marker out? */
static int guess(struct segment_walk *walk)
{
    const struct avro_log_visitor visitor = {.record = stop_at_record};
    const struct avro_log_scan_options options = {.open = walk->unfinished,
                                                  .seq_end = UINT64_MAX,
                                                  .effort = &walk->slow.effort,
                                                  .skip_unreadable = true};
    struct avro_log_summary summary;
    int result = avro_log_scan(walk->bytes.fd, &options, &visitor, &summary);
    if (result < 0)
        return result;
    if (summary.header_size == 0)
        return -EBADMSG;
    walk->damaged = !summary.has_header;
    walk->identity = summary.identity;
    walk->header_size = summary.header_size;
    walk->first_due = summary.has_header ? summary.identity.first_seq : 0;
    return 0;
}

static int open_header(struct segment_walk *walk, const char **ret_what)
{
    long length = avro_log_load_header(walk->bytes.fd, &walk->identity, ret_what);
    if (length == -EBADMSG || length == -EIO)
        return guess(walk);
    if (length < 0)
        return (int)length;
    walk->header_size = (uint64_t)length;
    walk->first_due = walk->identity.first_seq;
    return 0;
}

static uint64_t file_size(const struct segment_walk *walk)
{
    struct stat status;
    return fstat(walk->bytes.fd, &status) == 0 ? (uint64_t)status.st_size : 0;
}

static void go_to(struct segment_walk *walk, struct segment_place place)
{
    walk->place = place;
    walk->in_block = walk->is_slow = walk->ended = false;
    walk->held_end = 0;
}

static void go_to_first(struct segment_walk *walk)
{
    go_to(walk, (struct segment_place){.block = walk->header_size});
}

int segment_walk_open(int fd, bool unfinished, struct segment_walk **ret, const char **ret_what)
{
    struct stat status;
    *ret = NULL;
    *ret_what = "it can't be read";
    struct segment_walk *walk = calloc(1, sizeof *walk);
    if (!walk) {
        fd_close(&fd);
        return -ENOMEM;
    }
    walk->bytes.fd = fd;
    walk->unfinished = unfinished;
    walk->limit = (struct segment_limit){UINT64_MAX, UINT64_MAX, UINT64_MAX};
    walk->bytes.bytes = malloc(SEGMENT_BYTES_SIZE);
    int result = !walk->bytes.bytes             ? -ENOMEM
                 : fstat(fd, &status) < 0       ? -errno
                 : S_ISDIR(status.st_mode)      ? -EISDIR
                 : S_ISREG(status.st_mode) == 0 ? -EINVAL
                                                : open_header(walk, ret_what);
    if (result < 0) {
        segment_walk_close(walk);
        return result;
    }
    walk->bytes.end = file_size(walk);
    go_to_first(walk);
    *ret = walk;
    return 0;
}

struct segment_walk *segment_walk_close(struct segment_walk *walk)
{
    if (!walk)
        return NULL;
    fd_close(&walk->bytes.fd);
    free(walk->bytes.bytes);
    free(walk->slow.found);
    free(walk);
    return NULL;
}

const struct avro_log_identity *segment_walk_identity(const struct segment_walk *walk)
{
    return &walk->identity;
}

bool segment_walk_was_damaged(const struct segment_walk *walk)
{
    return walk->damaged;
}

uint64_t segment_walk_end_by_header(const struct segment_walk *walk)
{
    const struct avro_log_identity *identity = segment_walk_identity(walk);
    return identity->has_totals && identity->totals.records > 0 ? identity->totals.last_seq + 1 : 0;
}

bool segment_walk_is_cut_off(const struct segment_walk *walk)
{
    /* An empty block that was open is no part of the finished file. */
    return walk->limit.end != UINT64_MAX &&
           file_size(walk) + AVRO_LOG_BLOCK_HEADER_SIZE < walk->limit.end;
}

bool segment_walk_passed_damage(const struct segment_walk *walk)
{
    return walk->passed_damage;
}

/* ---- blocks ---- */

enum step {
    STEP_END,
    STEP_GO_ON,
    STEP_RECORD,
    STEP_SLOW, /* this block isn't as it should be */
};

/* Where the marker of the sealed block there is, or 0: nothing says that it is sealed. */
static uint64_t find_block_end(struct segment_walk *walk, uint64_t block, uint64_t *ret_count)
{
    size_t available;
    uint64_t size;
    const uint8_t *bytes =
        segment_bytes_view(&walk->bytes, block, AVRO_LOG_BLOCK_HEADER_SIZE, &available);
    if (!avro_log_read_block_header(bytes, available, ret_count, &size) ||
        size > AVRO_LOG_BLOCK_MAX - OVERHEAD)
        return 0;
    bytes = segment_bytes_view(&walk->bytes, block, size + OVERHEAD, &available);
    if (available < size + OVERHEAD || memcmp(bytes + AVRO_LOG_BLOCK_HEADER_SIZE + size,
                                              walk->identity.sync, AVRO_LOG_SYNC_SIZE) != 0)
        return 0;
    return block + AVRO_LOG_BLOCK_HEADER_SIZE + size;
}

static UNUSUAL enum step begin_block(struct segment_walk *walk)
{
    const uint64_t block = walk->place.block;
    if (block >= walk->bytes.end)
        return STEP_END;
    walk->at = block + AVRO_LOG_BLOCK_HEADER_SIZE;
    walk->seen = walk->count = 0;
    walk->due = walk->place.due;
    if (block == walk->limit.open_block)
        walk->block_end = UINT64_MAX;
    else if ((walk->block_end = find_block_end(walk, block, &walk->count)) == 0)
        return STEP_SLOW;
    else
        walk->held_end = walk->block_end;
    walk->in_block = true;
    return STEP_GO_ON;
}

/* At the marker of a sealed block. */
static void end_block(struct segment_walk *walk)
{
    if (walk->seen != walk->count)
        walk->damaged = true;
    go_to(walk, (struct segment_place){.block = walk->at + AVRO_LOG_SYNC_SIZE, .due = walk->due});
}

/* Its number is the one that is due. A higher one, at a block's beginning, may be right, but that
 * is to be found out by what follows. */
static bool is_due(const struct segment_walk *walk, uint64_t seq)
{
    return walk->due > 0 ? seq == walk->due : seq <= walk->first_due;
}

/* The bytes from here on to the block's end, as far as they can be one record's. */
static const uint8_t *record_bytes(struct segment_walk *walk, uint64_t end, size_t *ret_size)
{
    const uint8_t *bytes = segment_bytes_held(&walk->bytes, walk->at, end);
    *ret_size = (size_t)(end - walk->at);
    if (bytes) /* as a rule: the block was read in one piece */
        return bytes;
    const uint64_t most =
        end - walk->at < AVRO_LOG_RECORD_MAX ? end - walk->at : AVRO_LOG_RECORD_MAX;
    bytes = segment_bytes_view(&walk->bytes, walk->at, most, ret_size);
    if (*ret_size > end - walk->at)
        *ret_size = (size_t)(end - walk->at);
    return bytes;
}

/* What was read, when it is the record that comes next. */
static inline enum step take(struct segment_walk *walk, long length, uint64_t seq)
{
    if (length <= 0 || !is_due(walk, seq))
        return STEP_SLOW;
    if (seq >= walk->limit.seq_end)
        return STEP_END;
    walk->at += (uint64_t)length;
    walk->due = seq + 1;
    walk->seen++;
    return STEP_RECORD;
}

/* Of a block that isn't sealed, or isn't known to be in memory; or at a sealed one's end. */
static UNUSUAL enum step read_at_end(struct segment_walk *walk, struct avro_log_record *ret)
{
    const uint64_t end = walk->block_end < walk->bytes.end ? walk->block_end : walk->bytes.end;
    size_t size;

    if (walk->at >= end) {
        if (walk->at != walk->block_end)
            return STEP_END;
        end_block(walk);
        return STEP_GO_ON;
    }
    const uint8_t *bytes = record_bytes(walk, end, &size);
    long length = avro_log_read_record(bytes, size, ret, &walk->what);
    return take(walk, length, (uint64_t)ret->seq);
}

static inline enum step read_record(struct segment_walk *walk, struct avro_log_record *ret)
{
    if (walk->at >= walk->held_end)
        return read_at_end(walk, ret);
    const uint8_t *bytes = walk->bytes.bytes + (walk->at - walk->bytes.offset);
    long length =
        avro_log_read_record(bytes, (size_t)(walk->held_end - walk->at), ret, &walk->what);
    return take(walk, length, (uint64_t)ret->seq);
}

/* ---- what deviates ---- */

/* Zeros up to the end are what was never written. */
static bool is_blank_from(const struct segment_walk *walk, uint64_t offset)
{
    uint64_t extent;
    return avro_log_window_extent(walk->bytes.fd, &extent) == 0 && extent <= offset;
}

static UNUSUAL int begin_slow(struct segment_walk *walk)
{
    const bool has_end = walk->limit.end != UINT64_MAX;
    const struct segment_stretch stretch = {.fd = walk->bytes.fd,
                                            .from = walk->place,
                                            .size_end = has_end ? walk->limit.end : 0,
                                            .seq_end = walk->limit.seq_end,
                                            .open = walk->unfinished || has_end,
                                            .floor = walk->floor,
                                            .most = walk->slow_most};
    int result = segment_slow_collect(&walk->slow, &stretch);
    if (result < 0)
        return result;
    if (walk->slow.at_end && walk->slow.count == 0 && is_blank_from(walk, walk->place.block))
        walk->slow.faults = walk->slow.fault_behind = false;
    walk->damaged |= walk->slow.faults;
    walk->slow_most = walk->slow_most > 0 ? walk->slow_most * 2 : 1;
    if (walk->slow_most > SLOW_MOST)
        walk->slow_most = SLOW_MOST;
    walk->is_slow = true;
    walk->limit_moved = false;
    return 0;
}

/* The bytes may have changed since: a hole was punched, or the disk gives others. */
static bool read_found(struct segment_walk *walk, const struct segment_found *found,
                       struct avro_log_record *ret)
{
    size_t available;
    const char *what;
    const uint8_t *bytes =
        segment_bytes_view(&walk->bytes, found->offset, found->length, &available);
    if (available < found->length ||
        avro_log_read_record(bytes, found->length, ret, &what) != (long)found->length ||
        (uint64_t)ret->seq != found->seq) {
        walk->damaged = walk->passed_damage = true;
        return false;
    }
    walk->passed_damage |= found->after_fault;
    return true;
}

static UNUSUAL enum step read_slowly(struct segment_walk *walk, struct avro_log_record *ret)
{
    struct segment_slow *slow = &walk->slow;
    while (slow->next < slow->count)
        if (read_found(walk, &slow->found[slow->next++], ret))
            return STEP_RECORD;
    walk->passed_damage |= slow->fault_behind;
    go_to(walk, slow->then);
    walk->ended = slow->at_end && !walk->limit_moved;
    return STEP_GO_ON;
}

/* ---- the walk ---- */

static inline enum step step(struct segment_walk *walk, struct avro_log_record *ret)
{
    if (walk->is_slow)
        return read_slowly(walk, ret);
    if (walk->ended)
        return STEP_END;
    return walk->in_block ? read_record(walk, ret) : begin_block(walk);
}

int segment_walk_next(struct segment_walk *walk, uint64_t next_seq, struct avro_log_record *ret)
{
    if (next_seq > walk->floor)
        walk->floor = next_seq;
    if (walk->has_returned)
        walk->passed_damage = walk->has_returned = false;
    for (;;) {
        switch (step(walk, ret)) {
        case STEP_END:
            return WALK_END;
        case STEP_GO_ON:
            break;
        case STEP_SLOW: {
            int result = begin_slow(walk);
            if (result < 0)
                return result;
            break;
        }
        case STEP_RECORD:
            if ((uint64_t)ret->seq < walk->floor)
                break;
            walk->floor = (uint64_t)ret->seq + 1;
            walk->has_returned = true;
            if (!walk->is_slow)
                walk->slow_most = 0;
            return WALK_RECORD;
        }
    }
}

/* The block that was open when it was begun, is sealed by now: its header says where it ends. */
static void look_at_sealed(struct segment_walk *walk)
{
    walk->block_end = find_block_end(walk, walk->place.block, &walk->count);
    if (walk->block_end == 0 || walk->at > walk->block_end)
        walk->in_block = false; /* begin_block() finds that it deviates */
}

void segment_walk_set_limit(struct segment_walk *walk, const struct segment_limit *limit)
{
    const uint64_t was_open = walk->limit.open_block;
    if (limit->open_block != was_open && was_open < UINT64_MAX)
        segment_bytes_refresh(&walk->bytes, was_open, AVRO_LOG_BLOCK_HEADER_SIZE);
    walk->limit = *limit;
    walk->bytes.end = file_size(walk);
    if (limit->end < walk->bytes.end)
        walk->bytes.end = limit->end;
    walk->ended = false;
    walk->limit_moved = true;
    walk->held_end = 0;
    if (walk->in_block && walk->block_end == UINT64_MAX && walk->place.block != limit->open_block)
        look_at_sealed(walk);
}

/* ---- finding ---- */

static int search(struct segment_walk *walk, enum segment_key key, uint64_t wanted)
{
    struct segment_range range = {.fd = walk->bytes.fd,
                                  .sync = walk->identity.sync,
                                  .first_block = walk->header_size,
                                  .sealed_end = walk->bytes.end,
                                  .open_block = walk->limit.open_block,
                                  .end = walk->bytes.end};
    struct segment_place place;
    uint64_t extent;
    if (range.open_block < range.end)
        range.sealed_end = range.open_block;
    else if (walk->unfinished && avro_log_window_extent(range.fd, &extent) == 0 &&
             extent < range.end)
        range.sealed_end = extent; /* nothing but zeros follows */
    int result = segment_search(&range, key, wanted, &place);
    walk->floor = 0;
    walk->slow.effort = (struct avro_log_effort){0};
    walk->passed_damage = false;
    go_to(walk, place);
    return result;
}

int segment_walk_seek_seq(struct segment_walk *walk, uint64_t seq)
{
    int result = search(walk, SEGMENT_BY_SEQ, seq);
    walk->floor = seq;
    return result;
}

/* 1: *ret_seq is the last one, from here on, that is below `end`. */
static int read_last_before(struct segment_walk *walk, uint64_t end, uint64_t *ret_seq)
{
    struct segment_place place, last = {0};
    struct avro_log_record record;
    bool found = false;
    int result;
    for (;;) {
        place = walk->place;
        result = segment_walk_next(walk, 0, &record);
        if (result != WALK_RECORD || (uint64_t)record.seq >= end)
            break;
        found = true;
        last = place;
        *ret_seq = (uint64_t)record.seq;
    }
    if (result < 0 || !found)
        return result < 0 ? result : 0;
    go_to(walk, last);
    walk->floor = *ret_seq;
    return 1;
}

/* One search and one block, as a rule. Where nothing is sound in the block that ought to have it,
 * all that is before that. */
int segment_walk_seek_last(struct segment_walk *walk, uint64_t end, uint64_t *ret_seq)
{
    if (end <= walk->identity.first_seq)
        return 0;
    int result = search(walk, SEGMENT_BY_SEQ, end - 1);
    if (result == 0)
        result = read_last_before(walk, end, ret_seq);
    if (result != 0)
        return result;
    result = search(walk, SEGMENT_BY_SEQ, 0);
    return result == 0 ? read_last_before(walk, end, ret_seq) : result;
}

/* Where times never fall from record to record: the first one at this time or later. Where the
 * clock was set back inside this segment, and one of the blocks that were looked at shows it, also
 * the first one, for then all of the segment is read. Where none does: one at this time or later
 * whose predecessor is earlier, or that is the segment's first; there may be others before it. */
int segment_walk_seek_time(struct segment_walk *walk, int64_t time_ns)
{
    const uint64_t wanted = time_ns > 0 ? (uint64_t)time_ns : 0;
    struct segment_place place;
    struct avro_log_record record;
    int result = search(walk, SEGMENT_BY_TIME, wanted);
    if (result < 0)
        return result;
    do {
        place = walk->place;
        result = segment_walk_next(walk, 0, &record);
    } while (result == WALK_RECORD && avro_log_record_time_ns(&record) < wanted);
    if (result != WALK_RECORD)
        return result; /* none: it stays at the end */
    go_to(walk, place);
    walk->floor = (uint64_t)record.seq;
    return 0;
}
