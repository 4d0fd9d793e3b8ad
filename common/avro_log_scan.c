/* SPDX-License-Identifier: MIT */
/* The scan of a log file: blocks, records, faults, and the way back after a fault. Used by the
 * archive's recovery, by holdfastctl and by tests. Files may be damaged in any way and may shrink
 * meanwhile, so everything is read into a window of our own memory and every length is held against
 * it; no record that isn't sound may ever be passed on. */
#include "common/avro_log_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_beyond.h"
#include "common/avro_log_format.h"
#include "common/avro_log_guess.h"
#include "common/avro_log_header.h"
#include "common/avro_log_order.h"
#include "common/avro_log_report.h"
#include "common/avro_log_window.h"

_Static_assert(AVRO_LOG_WINDOW_MAX > AVRO_LOG_BLOCK_MAX, "the longest block fits");

/* ---- bytes ---- */

static const uint8_t *view(struct avro_log_scanning *scan, uint64_t offset, uint64_t want,
                           size_t *ret_size)
{
    const uint8_t *bytes = avro_log_window_view(&scan->window, offset, want, ret_size);
    if (scan->result == 0)
        scan->result = scan->window.error;
    return bytes;
}

static uint64_t file_size(const struct avro_log_scanning *scan)
{
    return scan->window.file_size;
}

static bool sync_is_at(struct avro_log_scanning *scan, uint64_t offset)
{
    bool is_there = avro_log_window_has(&scan->window, offset, scan->summary->identity.sync,
                                        AVRO_LOG_SYNC_SIZE);
    if (scan->result == 0)
        scan->result = scan->window.error;
    return is_there;
}

/* The offset behind the next sync marker at or after `from`, or the file's end. */
static uint64_t find_sync(struct avro_log_scanning *scan, uint64_t from)
{
    from =
        avro_log_window_find(&scan->window, from, scan->summary->identity.sync, AVRO_LOG_SYNC_SIZE);
    if (scan->result == 0)
        scan->result = scan->window.error;
    return from;
}

/* ---- records ---- */

/* Read the record at `offset`, which must end before `limit`. 0, or -EBADMSG with *ret_what; then
 * *ret_length says where the next record would begin, 0 if its lengths can't be believed either. */
static int read_record(struct avro_log_scanning *scan, uint64_t offset, uint64_t limit,
                       struct avro_log_found *ret, const char **ret_what)
{
    size_t size;
    uint64_t want = limit - offset < AVRO_LOG_RECORD_MAX ? limit - offset : AVRO_LOG_RECORD_MAX;
    const uint8_t *bytes = view(scan, offset, want, &size);
    if (size > want)
        size = want; /* more is in view, but no record is longer */
    ret->offset = offset;
    ret->block = scan->block.offset;
    ret->bytes = bytes;
    ret->record.payload = NULL;
    long length = avro_log_read_record(bytes, size, &ret->record, ret_what);
    ret->length = length > 0 ? (size_t)length : 0;
    if (length > 0)
        return 0;
    if (ret->record.payload) {
        size_t end =
            (size_t)(ret->record.payload - bytes) + ret->record.payload_length + AVRO_LOG_CRC_SIZE;
        ret->length = end <= size ? end : 0;
    }
    return -EBADMSG;
}

/* Where nothing but itself says that it is a record. */
static int try_record(struct avro_log_scanning *scan, uint64_t offset, uint64_t limit,
                      struct avro_log_found *ret, const char **ret_what)
{
    if (scan->waste.bytes > scan->waste.most) {
        *ret = (struct avro_log_found){.offset = offset};
        *ret_what = "too much in this file looks like a record and is none: from here on, only "
                    "what lies in whole blocks is read";
        return -EBADMSG;
    }
    int result = read_record(scan, offset, limit, ret, ret_what);
    if (result < 0)
        scan->waste.bytes += ret->length;
    return result;
}

/* ---- blocks ---- */

static void end_block(struct avro_log_scanning *scan)
{
    if (scan->block.count > 0)
        scan->summary->last_block = scan->block;
}

static void begin_block(struct avro_log_scanning *scan, uint64_t offset, bool sealed)
{
    end_block(scan);
    const struct avro_log_summary *summary = scan->summary;
    scan->block = (struct avro_log_block){.offset = offset, .sealed = sealed};
    scan->exact = false;
    scan->expected_seq = summary->records ? summary->last_seq + 1 : scan->options->from_seq;
}

static bool belongs_to_later_file(struct avro_log_scanning *scan, uint64_t seq)
{
    scan->ended = seq >= scan->options->seq_end;
    return scan->ended;
}

/* Is there a record with a higher number than the one that is due, and is it a copy of a later one?
 * `limit` and `behind` as in struct avro_log_order; *ret: what is to be passed over. */
static bool is_out_of_place(struct avro_log_scanning *scan, uint64_t at, uint64_t limit,
                            uint64_t behind, struct avro_log_run *ret)
{
    const struct avro_log_order order = {.at = at,
                                         .limit = limit,
                                         .behind = behind,
                                         .sync = scan->summary->identity.sync,
                                         .least = avro_log_report_next(scan, 0)};
    size_t size;
    int64_t seq;
    const uint8_t *bytes = view(scan, at, AVRO_LOG_RECORD_LEAST, &size);
    if (avro_log_read_long(bytes, size, &seq) <= 0 || seq < 0 ||
        (uint64_t)seq <= scan->expected_seq || (uint64_t)seq <= order.least)
        return false;
    return avro_log_order_is_broken(&order, &scan->window, &scan->order_waste, ret);
}

/* Where a part of an earlier copy was taken, a block is read from its first new record on. */
static bool is_repeated(const struct avro_log_scanning *scan, uint64_t seq)
{
    return scan->block.count == 0 && !scan->exact && seq < scan->expected_seq;
}

static const char does_not_follow[] =
    "the record's sequence number does not follow the one before it";
static const char out_of_place[] = "the record lies before others with lower numbers";

/* What a sealed block holds once more can be told from what it holds as long as each record's place
 * is certain. */
static bool is_passed_over(const struct avro_log_scanning *scan, uint64_t seq, bool after_damage)
{
    return seq < scan->expected_seq && (!after_damage || is_repeated(scan, seq));
}

/* Where the last record ended when it was committed: as certain as a marker. */
static bool ends_at_commit(const struct avro_log_scanning *scan)
{
    return scan->options->size_end > 0 && scan->options->size_end == file_size(scan);
}

/* The block's next sound record behind an unsound one: then it is the next to be expected. Returns
 * where it is, or 0. */
static uint64_t find_beyond(struct avro_log_scanning *scan, uint64_t at, uint64_t limit,
                            bool sealed)
{
    const struct avro_log_beyond beyond = {.at = at,
                                           .limit = limit,
                                           .due = scan->exact ? scan->expected_seq
                                                              : avro_log_report_next(scan, 0),
                                           .exact = scan->exact,
                                           .sealed = sealed,
                                           .sync = scan->summary->identity.sync};
    uint64_t seq;
    bool is_there = avro_log_find_beyond(&beyond, &scan->window, &scan->beyond_waste, &at, &seq);
    if (scan->result == 0)
        scan->result = scan->window.error;
    if (!is_there)
        return 0;
    scan->expected_seq = seq;
    scan->exact = true;
    return at;
}

/* Does the one that is due after this unsound one follow it? Its lengths are right, then. */
static bool is_followed(struct avro_log_scanning *scan, const struct avro_log_found *found)
{
    struct avro_log_found next;
    const char *what;
    uint64_t at = found->offset + found->length;
    uint64_t due = scan->exact ? scan->expected_seq : avro_log_report_next(scan, 0);
    return found->length > 0 && at < file_size(scan) &&
           try_record(scan, at, file_size(scan), &next, &what) == 0 &&
           (uint64_t)next.record.seq == due + 1;
}

/* From an unsound record in a sealed block to the next one, sound or not; 0 if that can't be told.
 */
static size_t pass_in_sealed(struct avro_log_scanning *scan, const struct avro_log_found *found,
                             uint64_t end, uint64_t *seen)
{
    const uint64_t due = scan->exact ? scan->expected_seq : 0;
    uint64_t behind = is_followed(scan, found) ? 0 : find_beyond(scan, found->offset, end, true);
    if (behind == 0) {
        scan->expected_seq++;
        return found->length;
    }
    *seen += due > 0 ? scan->expected_seq - due - 1 : 0;
    return (size_t)(behind - found->offset);
}

/* A block whose sync marker is where it should be. A recorder writes no jump into it: where there
 * is one, a part of it was put there by somebody else. Returns where the next block begins. */
static uint64_t walk_sealed(struct avro_log_scanning *scan, uint64_t offset, uint64_t count,
                            uint64_t size)
{
    uint64_t at = offset + AVRO_LOG_BLOCK_HEADER_SIZE, end = at + size, seen = 0;
    const uint64_t next = end + AVRO_LOG_SYNC_SIZE;
    bool after_damage = false, repeated = false;
    struct avro_log_found found;
    struct avro_log_run run;
    const char *what;

    begin_block(scan, offset, true);
    for (; at < end && scan->result == 0; at += found.length, seen++) {
        if (is_out_of_place(scan, at, end, next, &run)) {
            avro_log_report_fault(scan, at, out_of_place);
            found.length = run.length;
            seen += run.count - 1;
            scan->expected_seq += after_damage ? run.count : 0;
            continue;
        }
        if (read_record(scan, at, end, &found, &what) < 0) {
            avro_log_report_fault(scan, at, what);
            found.length = pass_in_sealed(scan, &found, end, &seen);
            if (found.length == 0)
                return next;
            after_damage = true;
            continue;
        }
        uint64_t seq = (uint64_t)found.record.seq;
        if (is_passed_over(scan, seq, after_damage)) {
            if (!repeated)
                avro_log_report_fault(scan, at, does_not_follow);
            repeated = true;
            continue;
        }
        if (seq < scan->expected_seq ||
            (after_damage && scan->exact && seq != scan->expected_seq)) {
            avro_log_report_fault(scan, at, does_not_follow);
            return next;
        }
        if (belongs_to_later_file(scan, seq))
            return next;
        if (scan->exact && seq != scan->expected_seq)
            avro_log_report_fault(scan, at, "sequence numbers are missing inside a block");
        after_damage = false;
        avro_log_report_record(scan, &found);
    }
    if (seen != count)
        avro_log_report_fault(scan, offset,
                              "the block does not hold as many records as its header says");
    return next;
}

/* Where the walk through a block has come to. */
static struct avro_log_resume here(const struct avro_log_scanning *scan, uint64_t at)
{
    return (struct avro_log_resume){.at = at,
                                    .in_block = true,
                                    .block = scan->block,
                                    .expected_seq = scan->expected_seq,
                                    .exact = scan->exact};
}

static bool has_block_header(struct avro_log_scanning *scan, uint64_t offset)
{
    uint64_t count, size;
    size_t available;
    const uint8_t *bytes = view(scan, offset, AVRO_LOG_BLOCK_HEADER_SIZE, &available);
    return avro_log_read_block_header(bytes, available, &count, &size);
}

/* Returns where the block's next sound record is, or 0. */
static uint64_t pass_unsound(struct avro_log_scanning *scan, const struct avro_log_found *found,
                             const char *what)
{
    const struct avro_log_resume now = here(scan, found->offset);
    uint64_t behind = found->offset + found->length;
    if (is_followed(scan, found))
        scan->expected_seq++;
    else
        behind = find_beyond(scan, found->offset, file_size(scan), ends_at_commit(scan));
    if (behind > 0)
        avro_log_report_end(scan, found->offset, what, &now);
    return behind;
}

static bool ends_as_promised(const struct avro_log_scanning *scan, uint64_t at, uint64_t count,
                             uint64_t promised_end)
{
    return count > 0 && scan->block.count == count && at == promised_end;
}

/* The records from `at` on of a block whose header says nothing that can be relied on. Returns
 * where the next block begins. */
static uint64_t walk_records(struct avro_log_scanning *scan, uint64_t at, uint64_t count,
                             uint64_t promised_end)
{
    const uint64_t offset = scan->block.offset;
    struct avro_log_found found;
    struct avro_log_resume now;
    struct avro_log_run run;
    bool repeated = false;
    const char *what = "";

    if (!scan->exact && is_out_of_place(scan, at, file_size(scan), 0, &run)) {
        avro_log_report_fault(scan, at, out_of_place);
        return find_sync(scan, at + run.length);
    }
    while (scan->result == 0) {
        if (sync_is_at(scan, at)) {
            now = here(scan, at);
            avro_log_report_end(scan, offset,
                                "the block's header does not tell the size of its records", &now);
            return at + AVRO_LOG_SYNC_SIZE;
        }
        if (try_record(scan, at, file_size(scan), &found, &what) < 0) {
            bool is_end = ends_as_promised(scan, at, count, promised_end);
            uint64_t behind = is_end ? 0 : pass_unsound(scan, &found, what);
            if (behind == 0)
                break;
            at = behind;
            continue;
        }
        uint64_t seq = (uint64_t)found.record.seq;
        if (is_repeated(scan, seq)) {
            now = here(scan, at);
            if (!repeated)
                avro_log_report_end(scan, at, does_not_follow, &now);
            repeated = true;
            at += found.length;
            continue;
        }
        if (seq < scan->expected_seq || (scan->exact && seq != scan->expected_seq)) {
            what = does_not_follow;
            break;
        }
        if (belongs_to_later_file(scan, seq))
            return file_size(scan);
        avro_log_report_record(scan, &found);
        at += found.length;
    }
    if (scan->result != 0)
        return at;
    now = here(scan, at);
    if (ends_as_promised(scan, at, count, promised_end)) { /* it alone is damaged */
        avro_log_report_end(scan, at, "the sync marker behind the block is missing", &now);
        return has_block_header(scan, at + AVRO_LOG_SYNC_SIZE) ? at + AVRO_LOG_SYNC_SIZE
                                                               : find_sync(scan, at);
    }
    avro_log_report_end(scan, at, at >= file_size(scan) ? "the file ends inside a block" : what,
                        &now);
    return find_sync(scan, at);
}

static uint64_t walk_open(struct avro_log_scanning *scan, uint64_t offset, uint64_t count,
                          uint64_t size)
{
    uint64_t at = offset + AVRO_LOG_BLOCK_HEADER_SIZE;
    begin_block(scan, offset, false);
    return walk_records(scan, at, count, at + size);
}

/* Not even the block's beginning is there. */
static uint64_t walk_rest(struct avro_log_scanning *scan, uint64_t offset)
{
    begin_block(scan, offset, false);
    uint64_t at = find_beyond(scan, offset, file_size(scan), ends_at_commit(scan));
    return at > 0 ? walk_records(scan, at, 0, 0) : find_sync(scan, offset);
}

static uint64_t scan_block(struct avro_log_scanning *scan, uint64_t offset)
{
    size_t available;
    uint64_t count, size;
    const uint8_t *bytes = view(scan, offset, AVRO_LOG_BLOCK_HEADER_SIZE, &available);
    if (!avro_log_read_block_header(bytes, available, &count, &size)) {
        struct avro_log_found found;
        const char *what;
        uint64_t records = offset + AVRO_LOG_BLOCK_HEADER_SIZE;
        if (records < file_size(scan) &&
            try_record(scan, records, file_size(scan), &found, &what) == 0)
            return walk_open(scan, offset, 0, 0); /* the header alone is damaged */
        avro_log_report_end(scan, offset, "no block where one should begin",
                            &(struct avro_log_resume){.at = offset, .block = scan->block});
        return walk_rest(scan, offset);
    }
    uint64_t overhead = AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_SYNC_SIZE;
    uint64_t left = file_size(scan) - offset;
    /* None is longer than AVRO_LOG_BLOCK_MAX; a longer one could be a hole of any size. */
    if (left >= overhead && size <= left - overhead && size <= AVRO_LOG_BLOCK_MAX - overhead) {
        view(scan, offset, size + overhead,
             &available); /* the block in one piece, rather than again and again */
        if (sync_is_at(scan, offset + AVRO_LOG_BLOCK_HEADER_SIZE + size))
            return walk_sealed(scan, offset, count, size);
    }
    return walk_open(scan, offset, count, size);
}

/* ---- the file ---- */

static struct avro_log_effort effort(const struct avro_log_scanning *scan)
{
    return (struct avro_log_effort){.records = scan->waste.bytes,
                                    .order = scan->order_waste.bytes,
                                    .beyond = scan->beyond_waste.bytes};
}

/* Behind the header: what it took to find a marker is not taken once more. */
static void take_over_effort(struct avro_log_scanning *scan)
{
    const struct avro_log_effort *before = scan->options->effort;
    if (!before || scan->options->from_block == 0)
        return;
    scan->waste.bytes = before->records;
    scan->order_waste.bytes = before->order;
    scan->beyond_waste.bytes = before->beyond;
}

static long read_file_header(struct avro_log_scanning *scan, const char **ret_what)
{
    size_t size;
    const uint8_t *bytes = view(scan, 0, AVRO_LOG_HEADER_MAX, &size);
    return avro_log_read_header(bytes, size, &scan->summary->identity, ret_what);
}

/* Back to where the file was unfinished when it was read, and from there on only as far as it is
 * written by now: nobody follows a writer for ever. Returns where the next block begins. */
static uint64_t go_on(struct avro_log_scanning *scan)
{
    const struct avro_log_resume from = scan->resume;
    uint64_t extent;
    if (!scan->is_live && avro_log_window_extent(scan->window.fd, &extent) == 0 &&
        extent < file_size(scan))
        scan->window.file_size = extent;
    scan->is_live = true;
    avro_log_window_forget(&scan->window);
    scan->result = 0;
    scan->pending_what = NULL;
    scan->block = from.block;
    scan->expected_seq = from.expected_seq;
    scan->exact = from.exact;
    if (!from.in_block)
        return from.at;
    if (sync_is_at(scan, from.at))
        return from.at + AVRO_LOG_SYNC_SIZE;
    return walk_records(scan, from.at, 0, 0);
}

/* A recorder writes the header before the first record: where there are records, it is there by
 * now, or lost. */
static long read_header_once_more(struct avro_log_scanning *scan)
{
    const struct avro_log_identity guessed = scan->summary->identity;
    const char *what;
    avro_log_window_forget(&scan->window);
    long length = read_file_header(scan, &what);
    if (length <= 0)
        scan->summary->identity = guessed;
    return length;
}

static void scan_file(struct avro_log_scanning *scan)
{
    struct avro_log_summary *summary = scan->summary;
    const char *what;
    long length = read_file_header(scan, &what);
    if (scan->result != 0)
        return;
    if (length <= 0) {
        memset(&summary->identity, 0, sizeof summary->identity);
        summary->header_size = avro_log_guess_sync(&scan->window, scan->options->open, &scan->waste,
                                                   summary->identity.sync);
        if (scan->options->open && summary->header_size > 0)
            length = read_header_once_more(scan);
        if (length <= 0)
            avro_log_report_fault(scan, 0, what);
        scan->result = scan->window.error;
    }
    summary->has_header = length > 0;
    if (summary->has_header)
        summary->header_size = (uint64_t)length;
    if (summary->header_size == 0)
        return;
    uint64_t offset = summary->header_size;
    if (offset < scan->options->from_block)
        offset = scan->options->from_block;
    take_over_effort(scan);
    while (offset < file_size(scan) && scan->result == 0 && !scan->ended) {
        scan->before_block = effort(scan);
        offset = scan_block(scan, offset);
        while (scan->result == AVRO_LOG_REWIND)
            offset = go_on(scan);
        avro_log_report_unreadable(scan);
    }
    avro_log_report_unreadable(scan);
    end_block(scan);
}

int avro_log_scan(int fd, const struct avro_log_scan_options *options,
                  const struct avro_log_visitor *visitor, struct avro_log_summary *ret)
{
    static const struct avro_log_visitor nobody;
    struct avro_log_scanning scan = {
        .options = options, .visitor = visitor ? visitor : &nobody, .summary = ret};
    struct stat status;

    memset(ret, 0, sizeof *ret);
    ret->fault_what = "";
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
    ret->file_size = (uint64_t)status.st_size;
    scan.window = (struct avro_log_window){
        .fd = fd, .file_size = ret->file_size, .skip_unreadable = options->skip_unreadable};
    if (options->size_end > 0 && options->size_end < ret->file_size)
        scan.window.file_size = options->size_end;
    scan.waste.most = avro_log_waste_most(ret->file_size);
    scan.order_waste.most = scan.beyond_waste.most = scan.waste.most;
    if (!avro_log_window_open(&scan.window))
        return -ENOMEM;
    scan_file(&scan);
    ret->bytes_read = scan.window.bytes_read;
    ret->bytes_wasted = scan.waste.bytes;
    if (options->effort)
        *options->effort = scan.result == 0 ? effort(&scan) : scan.before_block;
    ret->unreadable_pages = scan.window.unreadable;
    avro_log_window_close(&scan.window);
    return scan.result;
}
