/* SPDX-License-Identifier: MIT */
/* Finds the number behind the last recorded one, from what files say and what they can hold. Called
 * by recovery.c once everything is finished. Reads only. Must never go on below a number that a
 * datagram was given, also where its record is lost: a gap says so, the same number twice does not.
 */
#include "worker/archive/recovery_numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_end.h"
#include "common/avro_log_format.h"
#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "common/avro_log_window.h"
#include "common/fd.h"
#include "common/log.h"

static const struct avro_log_scan_options whole = {.open = true, .seq_end = UINT64_MAX};

bool recovery_numbers_is_kept(const struct message_recover *request, const struct folder_file *file)
{
    for (uint32_t i = 0; i < request->keep_count && i < 2; i++)
        if (strcmp(request->keep[i], file->name) == 0 ||
            (request->keep_id[i] && request->keep_id[i] == file->id))
            return true;
    return false;
}

void recovery_numbers_raise(struct recovery_numbers *numbers, uint64_t next_seq)
{
    if (next_seq > numbers->next_seq)
        numbers->next_seq = next_seq;
}

/* No record is shorter, so that it can't hold more numbers than that. */
static uint64_t most_numbers(const struct folder_file *file)
{
    return file->size / AVRO_LOG_RECORD_LEAST + 1;
}

void recovery_numbers_pass_unread(struct recovery_numbers *numbers, const struct folder_file *file)
{
    if (file->first_seq == UINT64_MAX)
        return;
    uint64_t end = file->first_seq + most_numbers(file);
    if (end <= numbers->next_seq)
        return;
    log_warning("channel %s: %s can't be read; numbers go on at %llu, behind all that it can hold",
                numbers->request->channel, file->name, (unsigned long long)end);
    numbers->next_seq = end;
}

/* Behind the last sound record, and behind as many as its block promises, if nothing lies behind
 * that; else as many of the shortest as there is room for in what follows and was written to. */
static uint64_t end_of_numbers(int fd, const struct avro_log_summary *summary, uint64_t first_seq,
                               uint64_t extent)
{
    /* With its own marker, and the header of a block without records. */
    uint64_t end =
        avro_log_block_end(&summary->last_block) + AVRO_LOG_SYNC_SIZE + AVRO_LOG_BLOCK_HEADER_SIZE;
    uint64_t seq = summary->records > 0 ? summary->last_seq + 1 : first_seq, promised_end;
    uint64_t more = avro_log_promised_more(fd, summary, &promised_end);
    if (more > 0 && extent <= promised_end)
        return seq + more;
    if (summary->records == 0)
        end = 0;
    return extent > end ? seq + (extent - end) / AVRO_LOG_RECORD_LEAST + 1 : seq + more;
}

/* One that could not be finished is as good as one that was, if its end is as a recorder leaves it.
 * 1, 0 or -errno. */
static int ends_soundly(const struct folder_file *file, int fd,
                        const struct avro_log_summary *summary)
{
    if (!avro_log_name_ends_in(file->name, AVRO_LOG_OPEN_SUFFIX))
        return 0;
    int lacks_end = avro_log_lacks_end(fd, &whole, summary);
    return lacks_end < 0 ? lacks_end : !lacks_end;
}

/* A file that is not as it was written: behind all that it can hold. 0 or -errno. */
static int pass_damaged_file(struct recovery_numbers *numbers, const struct folder_file *file,
                             int fd)
{
    bool named = file->first_seq != UINT64_MAX;
    struct avro_log_summary summary;
    uint64_t extent = 0;
    int result = avro_log_scan(fd, &whole, NULL, &summary);
    if (result == 0)
        result = avro_log_window_extent(fd, &extent);
    int sound = result == 0 ? ends_soundly(file, fd, &summary) : result;
    result = sound < 0 ? sound : result;
    if (result == -EIO) { /* a disk that can't read may take long over it */
        recovery_numbers_pass_unread(numbers, file);
        return 0;
    }
    if (result < 0 || (!named && summary.records == 0))
        return result;
    uint64_t end = summary.records > 0 ? summary.last_seq + 1 : file->first_seq;
    if (!sound)
        end = end_of_numbers(fd, &summary, file->first_seq, extent);
    if (end > numbers->next_seq)
        log_notice("channel %s: numbers go on at %llu, behind all that %s can hold",
                   numbers->request->channel, (unsigned long long)end, file->name);
    recovery_numbers_raise(numbers, end);
    return 0;
}

/* *ret_found: it has records, or had some. 0 or -errno. */
static int pass_sealed_file(struct recovery_numbers *numbers, const struct folder_file *file,
                            int fd, bool *ret_found)
{
    struct avro_log_last last;
    int result = avro_log_find_last(fd, &last);
    *ret_found = last.found;
    if (last.found)
        recovery_numbers_raise(numbers, last.seq + 1);
    if (result == -EIO) {
        *ret_found |= file->first_seq != UINT64_MAX;
        if (!last.in_header)
            recovery_numbers_pass_unread(numbers, file);
        return 0;
    }
    if (result < 0)
        return result;
    return last.damaged && !last.in_header ? pass_damaged_file(numbers, file, fd) : 0;
}

static int pass_kept_file(struct recovery_numbers *numbers, const struct folder_file *file, int fd)
{
    struct avro_log_summary summary;
    int result = avro_log_scan(fd, &whole, NULL, &summary);
    if (result == -EIO)
        recovery_numbers_pass_unread(numbers, file);
    else if (result == 0 && summary.records > 0)
        recovery_numbers_raise(numbers, summary.last_seq + 1);
    return result == -EIO ? 0 : result;
}

/* Files whose numbers are all below are not read for that. */
static bool must_be_passed(const struct recovery_numbers *numbers, const struct folder_file *file)
{
    bool stayed_open = avro_log_name_ends_in(file->name, AVRO_LOG_OPEN_SUFFIX) &&
                       !recovery_numbers_is_kept(numbers->request, file);
    return (stayed_open || avro_log_name_ends_in(file->name, AVRO_LOG_DAMAGED_SUFFIX)) &&
           (file->first_seq == UINT64_MAX ||
            file->first_seq + most_numbers(file) >= numbers->next_seq);
}

/* 0 with a descriptor, or with -1: it has just been removed; or -errno. */
static int open_file(const struct recovery_numbers *numbers, const struct folder_file *file,
                     int *ret_fd)
{
    *ret_fd = openat(numbers->folder, file->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return *ret_fd < 0 && errno != ENOENT ? -errno : 0;
}

static int pass_damaged(struct recovery_numbers *numbers)
{
    for (size_t i = 0; i < numbers->list->count; i++) {
        const struct folder_file *file = &numbers->list->files[i];
        int fd;
        if (!must_be_passed(numbers, file))
            continue;
        int result = open_file(numbers, file, &fd);
        if (result == 0 && fd >= 0)
            result = pass_damaged_file(numbers, file, fd);
        fd_close(&fd);
        if (result == -EIO)
            recovery_numbers_pass_unread(numbers, file);
        else if (result < 0)
            return result;
    }
    return 0;
}

/* From the sealed files with the highest number that have a record, from those in use, and from
 * those that were set aside or could not be finished. Any file counts at least with the number in
 * its name. */
int recovery_numbers_find(struct recovery_numbers *numbers)
{
    uint64_t found_at = 0;
    bool found = false;
    for (size_t i = numbers->list->count; i-- > 0;) {
        const struct folder_file *file = &numbers->list->files[i];
        bool sealed = avro_log_name_ends_in(file->name, AVRO_LOG_SUFFIX), here = false;
        int fd;
        if (file->first_seq != UINT64_MAX)
            recovery_numbers_raise(numbers, file->first_seq);
        bool counts = sealed && (!found || file->first_seq == found_at);
        if (!counts && !recovery_numbers_is_kept(numbers->request, file))
            continue;
        int result = open_file(numbers, file, &fd);
        if (result == 0 && fd >= 0)
            result = counts ? pass_sealed_file(numbers, file, fd, &here)
                            : pass_kept_file(numbers, file, fd);
        fd_close(&fd);
        if (result < 0)
            return result;
        if (here && file->first_seq != UINT64_MAX) {
            found = true;
            found_at = file->first_seq;
        }
    }
    return pass_damaged(numbers);
}
