/* SPDX-License-Identifier: MIT */
/* Finishes what a crash or a power cut left unfinished in a channel's folder. Called by archive.c
 * for RECOVER. One file's trouble is no reason to record nothing any more: it is set aside, and
 * told. Must never change a file that somebody may write to: it waits until no process has it (as
 * far as the file system knows locks) and only reads what it was told to keep. */
#include "worker/archive/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "worker/archive/file_lock.h"
#include "worker/archive/folder.h"
#include "worker/archive/unfinished.h"

/* Workers of a daemon that was killed notice and leave within this time. */
#define HOLDER_PATIENCE_NS (2 * NS_PER_S)
/* For another recovery in the same folder */
#define LOCK_PATIENCE_NS (10 * NS_PER_S)

/* ---- a channel's folder ---- */

struct open_file {
    const char *name;
    uint64_t first_seq; /* UINT64_MAX when it has none: nothing was begun */
};

struct recovery {
    int folder;
    const struct message_recover *request;
    struct message_recovered *answer;
    struct folder_list list;
    uint64_t next_seq;
};

/* By its name, or by what it is: a rename may have failed, or not have been done yet. */
static bool is_kept(const struct recovery *recovery, const struct folder_file *file)
{
    for (uint32_t i = 0; i < recovery->request->keep_count && i < 2; i++)
        if (strcmp(recovery->request->keep[i], file->name) == 0 ||
            (recovery->request->keep_id[i] && recovery->request->keep_id[i] == file->id))
            return true;
    return false;
}

static bool is_listed(const struct recovery *recovery, const char *name)
{
    for (size_t i = 0; i < recovery->list.count; i++)
        if (strcmp(recovery->list.files[i].name, name) == 0)
            return true;
    return false;
}

static void raise_next_seq(struct recovery *recovery, uint64_t next_seq)
{
    if (next_seq > recovery->next_seq)
        recovery->next_seq = next_seq;
}

/* A recovery before this one was interrupted: its copy is complete if the original has lost its
 * name already. */
static int resume_mending(struct recovery *recovery)
{
    const char *channel = recovery->request->channel;
    for (size_t i = 0; i < recovery->list.count; i++) {
        const char *name = recovery->list.files[i].name;
        char original[UNFINISHED_ORIGINAL_SIZE], mended[SEGMENT_NAME_SIZE];
        if (!avro_log_name_ends_in(name, AVRO_LOG_MENDING_SUFFIX))
            continue;
        unfinished_original_name(name, original);
        int result = is_listed(recovery, original)
                         ? unfinished_discard(recovery->folder, channel, name,
                                              "an unfinished copy; the original is still there")
                         : unfinished_finish_mending(recovery->folder, channel, name, mended);
        if (result == -EBADMSG) /* none of ours: a copy is whole before its original goes */
            result =
                unfinished_set_aside(recovery->folder, channel, name, "a copy that can't be read");
        if (result < 0)
            return result;
    }
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct open_file *left = a, *right = b;
    return left->first_seq < right->first_seq ? 1 : left->first_seq > right->first_seq ? -1 : 0;
}

/* Where the file after the one that begins at first_seq begins. A worker that died while it went
 * over to a new segment may have left records behind the old one's end that the new one has too. */
static void find_end(const struct recovery *recovery, uint64_t first_seq,
                     const struct unfinished_outcome *recovered_later, struct unfinished *file)
{
    file->options.seq_end = UINT64_MAX;
    if (first_seq == UINT64_MAX)
        return; /* unknown: it belongs nowhere */
    if (recovered_later->has_records)
        file->options.seq_end = recovered_later->first_seq;
    for (size_t i = 0; i < recovery->list.count; i++) {
        const struct folder_file *other = &recovery->list.files[i];
        bool counts =
            avro_log_name_ends_in(other->name, AVRO_LOG_SUFFIX) || is_kept(recovery, other);
        if (counts && other->first_seq > first_seq && other->first_seq < file->options.seq_end)
            file->options.seq_end = other->first_seq;
    }
}

/* Wait until no process has the file any more, and keep it locked until *ret_fd is closed: nobody
 * gets it while it is being finished. Without locks in the file system, nobody is seen. */
static int wait_for_holders(const struct recovery *recovery, const char *name, int *ret_fd)
{
    int fd = openat(recovery->folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    bool busy = file_lock_wait(fd, HOLDER_PATIENCE_NS) == -EBUSY;
    if (busy)
        fd_close(&fd);
    *ret_fd = fd;
    return busy ? -EBUSY : 0;
}

/* One file's trouble is no reason to record nothing any more. true: it is dealt with, go on. */
static bool live_with(const struct recovery *recovery, const char *name, int error)
{
    const char *channel = recovery->request->channel;
    if (error == -ENOSPC || error == -EDQUOT) {
        log_warning(
            "channel %s: there is no space to mend %s: %s; it stays as it is until the next start "
            "or recovery; free some",
            channel, name, strerror(-error));
        return true;
    }
    return error == -EIO && unfinished_set_aside(recovery->folder, channel, name,
                                                 "the disk can't read all of it") == 0;
}

static int finish_open_file(struct recovery *recovery, const struct open_file *file,
                            struct unfinished_outcome *recovered_later)
{
    struct unfinished_outcome outcome = {0};
    struct unfinished unfinished = {.folder = recovery->folder,
                                    .channel = recovery->request->channel,
                                    .name = file->name,
                                    .options = {.open = true}};
    int held = -1;
    int result = wait_for_holders(recovery, file->name, &held);
    if (result == -EBUSY)
        snprintf(recovery->answer->reason, sizeof recovery->answer->reason,
                 "%.80s is still open in a process of an earlier holdfastd: it must end first",
                 file->name);
    find_end(recovery, file->first_seq, recovered_later, &unfinished);
    if (result == 0)
        result = unfinished_finish(&unfinished, &outcome);
    fd_close(&held);
    if (result < 0 && !live_with(recovery, file->name, result))
        return result;
    if (!outcome.has_records)
        return 0;
    raise_next_seq(recovery, outcome.last_seq + 1);
    if (result < 0)
        return 0;
    recovery->answer->files++;
    if (!recovered_later->has_records || outcome.first_seq < recovered_later->first_seq)
        *recovered_later = outcome;
    return 0;
}

static int finish_all(struct recovery *recovery)
{
    struct unfinished_outcome recovered_later = {0};
    size_t count = 0;
    int result = 0;
    struct open_file *files = calloc(recovery->list.count + 1, sizeof *files);
    if (!files)
        return -ENOMEM;
    for (size_t i = 0; i < recovery->list.count; i++) {
        const struct folder_file *file = &recovery->list.files[i];
        if (avro_log_name_ends_in(file->name, AVRO_LOG_OPEN_SUFFIX) && !is_kept(recovery, file))
            files[count++] =
                (struct open_file){file->name, unfinished_first_seq(recovery->folder, file->name)};
    }
    qsort(files, count, sizeof *files, newest_first);
    for (size_t i = 0; i < count && result == 0; i++)
        result = finish_open_file(recovery, &files[i], &recovered_later);
    free(files);
    return result;
}

/* 1 with *ret_seq, 0 when no sound record is in it, or -errno. */
static int last_seq_of(const struct recovery *recovery, const char *name, uint64_t *ret_seq)
{
    const struct avro_log_scan_options open = {.open = true, .seq_end = UINT64_MAX};
    struct avro_log_summary summary;
    int fd = openat(recovery->folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int result;
    if (avro_log_name_ends_in(name, AVRO_LOG_SUFFIX)) {
        result = avro_log_last_seq(fd, ret_seq);
    } else {
        result = avro_log_scan(fd, &open, NULL, &summary);
        *ret_seq = summary.last_seq;
        result = result == 0 ? summary.records > 0 : result;
    }
    fd_close(&fd);
    return result;
}

/* A file that can't be read: no record is shorter, so it can't hold more numbers than that. */
static uint64_t most_numbers(const struct folder_file *file)
{
    return file->size / AVRO_LOG_RECORD_LEAST + 1;
}

/* Where the zeros begin that were never written to. */
static int find_extent(int fd, uint64_t size, uint64_t *ret_extent)
{
    static uint8_t bytes[64 * 1024];
    *ret_extent = 0;
    for (uint64_t end = size; end > 0;) {
        size_t piece = end < sizeof bytes ? (size_t)end : sizeof bytes;
        ssize_t n = pread(fd, bytes, piece, (off_t)(end - piece));
        if (n < 0)
            return -errno;
        for (size_t i = (size_t)n; i > 0; i--) {
            if (bytes[i - 1] != 0) {
                *ret_extent = end - piece + i;
                return 0;
            }
        }
        end -= piece;
    }
    return 0;
}

/* Behind the last sound record, and behind as many of the shortest as there is room for in what
 * follows and was written to. */
static uint64_t end_of_numbers(const struct avro_log_summary *summary, uint64_t first_seq,
                               uint64_t extent)
{
    const struct avro_log_block *last = &summary->last_block;
    /* With its own marker, and the header of a block without records. */
    uint64_t end = last->offset + AVRO_LOG_BLOCK_HEADER_SIZE + last->size + AVRO_LOG_SYNC_SIZE +
                   AVRO_LOG_BLOCK_HEADER_SIZE;
    uint64_t seq = summary->records > 0 ? summary->last_seq + 1 : first_seq;
    if (summary->records == 0)
        end = 0;
    return extent > end ? seq + (extent - end) / AVRO_LOG_RECORD_LEAST + 1 : seq;
}

/* The number behind all that a file which was set aside can hold. 0: that can't be told. Or
 * -errno. */
static int end_of_damaged(const struct recovery *recovery, const struct folder_file *file,
                          uint64_t *ret_end)
{
    const struct avro_log_scan_options whole = {.open = true, .seq_end = UINT64_MAX};
    bool named = file->first_seq != UINT64_MAX;
    struct avro_log_summary summary;
    uint64_t extent;
    *ret_end = 0;
    int fd = openat(recovery->folder, file->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int result = avro_log_scan(fd, &whole, NULL, &summary);
    if (result == 0)
        result = find_extent(fd, file->size, &extent);
    fd_close(&fd);
    if (result == 0 && (named || summary.records > 0))
        *ret_end = end_of_numbers(&summary, file->first_seq, extent);
    else if (result == -EIO && named) /* a disk that can't read may take long over it */
        *ret_end = file->first_seq + most_numbers(file);
    return result == -EIO ? 0 : result;
}

/* A number that was given once is not given again, also where only a file has it that was set
 * aside. Files whose numbers are all below are not read for that. */
static int pass_damaged(struct recovery *recovery)
{
    uint64_t end;
    for (size_t i = 0; i < recovery->list.count; i++) {
        const struct folder_file *file = &recovery->list.files[i];
        if (!avro_log_name_ends_in(file->name, AVRO_LOG_DAMAGED_SUFFIX) ||
            (file->first_seq != UINT64_MAX &&
             file->first_seq + most_numbers(file) < recovery->next_seq))
            continue;
        int result = end_of_damaged(recovery, file, &end);
        if (result < 0)
            return result;
        if (end > recovery->next_seq)
            log_notice("channel %s: numbers go on at %llu, behind all that %s can hold",
                       recovery->request->channel, (unsigned long long)end, file->name);
        raise_next_seq(recovery, end);
    }
    return 0;
}

/* The number after the last recorded one: from the sealed files with the highest number that have a
 * record, from those in use, and from those that were set aside. Any file counts at least with the
 * number in its name. */
static int find_next_seq(struct recovery *recovery)
{
    uint64_t found_at = 0, seq = 0;
    bool found = false;
    for (size_t i = recovery->list.count; i-- > 0;) {
        const struct folder_file *file = &recovery->list.files[i];
        bool sealed = avro_log_name_ends_in(file->name, AVRO_LOG_SUFFIX);
        if (file->first_seq != UINT64_MAX)
            raise_next_seq(recovery, file->first_seq);
        if (!(sealed && (!found || file->first_seq == found_at)) && !is_kept(recovery, file))
            continue;
        int result = last_seq_of(recovery, file->name, &seq);
        if (result == -EIO && file->first_seq != UINT64_MAX) {
            seq = file->first_seq + most_numbers(file);
            log_warning(
                "channel %s: the disk can't read %s; numbers go on at %llu, behind all that it can "
                "hold",
                recovery->request->channel, file->name, (unsigned long long)seq + 1);
            result = 1;
        }
        if (result < 0 && result != -ENOENT)
            return result;
        if (result <= 0)
            continue;
        if (sealed && file->first_seq != UINT64_MAX) {
            found = true;
            found_at = file->first_seq;
        }
        raise_next_seq(recovery, seq + 1);
    }
    return pass_damaged(recovery);
}

static int list_again(struct recovery *recovery)
{
    folder_list_free(&recovery->list);
    return folder_list(recovery->folder, recovery->request->channel, &recovery->list);
}

void recovery_run(const char *log_dir, const struct message_recover *request,
                  struct message_recovered *ret)
{
    struct recovery recovery = {.request = request, .answer = ret};
    memset(ret, 0, sizeof *ret);
    snprintf(ret->channel, sizeof ret->channel, "%s", request->channel);
    recovery.folder = folder_open(log_dir, request->channel, false);
    int result = recovery.folder < 0 ? recovery.folder : 0;
    /* An archive before this one may have left a recovery that is still about to die. */
    if (result == 0 && file_lock_wait(recovery.folder, LOCK_PATIENCE_NS) == -EBUSY)
        result = -EBUSY;
    if (result == 0)
        result = list_again(&recovery);
    if (result == 0)
        result = resume_mending(&recovery);
    if (result == 0)
        result = list_again(&recovery);
    if (result == 0)
        result = finish_all(&recovery);
    if (result == 0)
        result = list_again(&recovery);
    if (result == 0)
        result = find_next_seq(&recovery);
    folder_list_free(&recovery.list);
    if (recovery.folder >= 0)
        fd_close(&recovery.folder);
    ret->next_seq = recovery.next_seq;
    if (result == 0 ||
        (result == -ENOENT && recovery.next_seq == 0 && recovery.folder < 0 && ret->files == 0))
        return; /* no folder yet: an empty log */
    ret->error = -result;
    if (!ret->reason[0])
        folder_explain(log_dir, request->channel, -result, ret->reason);
}
