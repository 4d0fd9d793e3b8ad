/* SPDX-License-Identifier: MIT */
/* A segment's life on disk: made and preallocated, begun, sealed. Called by archive.c for one
 * message each; may block on the disk. Must never truncate or rename a file that isn't the one
 * meant: what is sealed is checked by inode and by content, what is begun by its unique name; and
 * each step may be repeated after a crash in the middle. */
#include "worker/archive/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/avro_log_end.h"
#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/file_name.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "worker/archive/file_lock.h"
#include "worker/archive/folder.h"
#include "worker/archive/segment_header.h"
#include "worker/archive/unfinished.h"

/* ---- open ---- */

/* Space that can't be taken away later: a write to a sparse map on a full disk would be SIGBUS. */
static int preallocate(int fd, uint64_t size)
{
    static const uint8_t zeros[64 * 1024];
    int result;
    do
        result = fallocate(fd, 0, 0, (off_t)size) < 0 ? -errno : 0;
    while (result == -EINTR);
    if (result != -EOPNOTSUPP)
        return result;
    result = 0;
    for (uint64_t at = 0; at < size && result == 0; at += sizeof zeros) {
        size_t piece = size - at < sizeof zeros ? (size_t)(size - at) : sizeof zeros;
        result = fd_write_all(fd, zeros, piece, at);
    }
    return result;
}

static int create_prepared(int folder, const char *channel, char ret_name[SEGMENT_NAME_SIZE])
{
    for (int attempt = 0;; attempt++) {
        uint64_t unique;
        if (getrandom(&unique, sizeof unique, 0) != sizeof unique)
            return -EIO;
        avro_log_prepared_name(channel, unique, ret_name);
        int fd = openat(folder, ret_name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0640);
        /* Before anything else, which may take long: nobody may take it for an orphan meanwhile. A
         * file system without locks does without. */
        if (fd >= 0)
            file_lock_mark_writer(fd);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST || attempt == 3)
            return -errno;
    }
}

static void explain_open(const char *log_dir, const struct message_open_segment *request, int error,
                         char reason[MESSAGE_REASON_SIZE])
{
    struct statvfs space;
    char wanted[32], left[32];
    if ((error != ENOSPC && error != EDQUOT) || statvfs(log_dir, &space) < 0) {
        folder_explain(log_dir, request->channel, error, reason);
        return;
    }
    units_human_bytes(request->size, wanted, sizeof wanted);
    units_human_bytes((uint64_t)space.f_bavail * space.f_frsize, left, sizeof left);
    if (strcmp(wanted, left) == 0) /* what the file system keeps of a file besides its content */
        snprintf(left, sizeof left, "a little less");
    snprintf(reason, MESSAGE_REASON_SIZE,
             "%.40s: no space: %.15s wanted, %.15s free; free some, lower segment_size, or set "
             "keep_at_most",
             log_dir, wanted, left);
}

/* An archive that was killed before it could hand a segment out leaves it behind: prepared, never
 * begun, and in nobody's hands, which the lock tells. One that was begun is for recovery, whoever
 * had it. */
static void remove_orphans(int folder, const char *channel)
{
    struct folder_list list;
    if (folder_list(folder, channel, &list) < 0)
        list.count = 0; /* not worth failing for */
    for (size_t i = 0; i < list.count; i++) {
        const char *name = list.files[i].name;
        if (!avro_log_name_is_prepared(name, channel) ||
            !avro_log_name_ends_in(name, AVRO_LOG_OPEN_SUFFIX))
            continue;
        int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && file_lock_await_writers(fd, 0) == 0 && avro_log_is_blank(fd) == 1 &&
            unlinkat(folder, name, 0) == 0)
            log_info("channel %s: removed %s, which was prepared and never handed out", channel,
                     name);
        fd_close(&fd);
    }
    folder_list_free(&list);
}

static int make_segment(int folder, const struct message_open_segment *request,
                        struct segment_grant *ret)
{
    struct stat status = {0};
    if (request->size < AVRO_LOG_HEADER_MAX || request->size > INT64_MAX)
        return -EINVAL;
    remove_orphans(folder, request->channel);
    int fd = create_prepared(folder, request->channel, ret->name);
    if (fd < 0)
        return fd;
    int result = preallocate(fd, request->size);
    if (result == 0 && fstat(fd, &status) < 0)
        result = -errno;
    if (result == 0 && getrandom(ret->sync, sizeof ret->sync, 0) != sizeof ret->sync)
        result = -EIO;
    if (result < 0) {
        unlinkat(folder, ret->name, 0);
        fd_close(&fd);
        return result;
    }
    if (segment_header_log_id(folder, request->channel, ret->log_id) != 1 &&
        getrandom(ret->log_id, sizeof ret->log_id, 0) != sizeof ret->log_id)
        memset(ret->log_id, 0, sizeof ret->log_id); /* not known */
    ret->id = status.st_ino;
    ret->size = request->size;
    return fd;
}

void segments_open(const char *log_dir, const struct message_open_segment *request,
                   struct message_segment *ret, int *ret_fd)
{
    memset(ret, 0, sizeof *ret);
    snprintf(ret->channel, sizeof ret->channel, "%s", request->channel);
    *ret_fd = -1;
    int folder = folder_open(log_dir, request->channel, true);
    int result = folder < 0 ? folder : make_segment(folder, request, &ret->grant);
    fd_close(&folder);
    if (result >= 0) {
        *ret_fd = result;
        return;
    }
    memset(&ret->grant, 0, sizeof ret->grant);
    ret->error = -result;
    explain_open(log_dir, request, -result, ret->reason);
}

/* ---- numbers without records ---- */

/* Begun and finished at once: a crash in between leaves what recovery makes the same of. */
static int make_empty(int folder, const struct message_numbers *request,
                      char ret_name[SEGMENT_NAME_SIZE])
{
    uint8_t header[AVRO_LOG_HEADER_MAX];
    char prepared[SEGMENT_NAME_SIZE], open_name[SEGMENT_NAME_SIZE];
    struct avro_log_identity identity = {.first_seq = request->next_seq,
                                         .created_ns = realtime_now_ns()};
    memcpy(identity.channel, request->channel, sizeof identity.channel);
    memcpy(identity.listen, request->listen, sizeof identity.listen);
    segment_header_log_id(folder, request->channel, identity.log_id);
    if (getrandom(identity.sync, sizeof identity.sync, 0) != sizeof identity.sync)
        return -EIO;
    int fd = create_prepared(folder, request->channel, prepared);
    if (fd < 0)
        return fd;
    int result = fd_write_all(fd, header, avro_log_write_header(header, &identity), 0);
    if (result == 0 && fsync(fd) < 0)
        result = -errno;
    avro_log_segment_name(request->channel, identity.first_seq, identity.created_ns, open_name);
    if (result == 0)
        result = folder_rename(folder, prepared, open_name, AVRO_LOG_SUFFIX, ret_name);
    if (result < 0)
        unlinkat(folder, prepared, 0);
    fd_close(&fd);
    return result;
}

void segments_note_numbers(const char *log_dir, const struct message_numbers *request)
{
    char name[SEGMENT_NAME_SIZE] = "", reason[MESSAGE_REASON_SIZE];
    int folder = folder_open(log_dir, request->channel, true);
    int result = folder < 0 ? folder : 0;
    if (result == 0 &&
        !segment_header_is_remembered(folder, request->channel, request->next_seq, 0))
        result = make_empty(folder, request, name);
    fd_close(&folder);
    if (result < 0)
        folder_explain(log_dir, request->channel, -result, reason);
    if (result < 0)
        log_warning("channel %s: datagrams up to number %llu were received and could not be "
                    "recorded, and not even that could be noted: %s; their numbers are given again",
                    request->channel, (unsigned long long)request->next_seq - 1, reason);
    else if (name[0])
        log_notice("channel %s: datagrams up to number %llu were received and could not be "
                   "recorded; the log goes on behind them (%s)",
                   request->channel, (unsigned long long)request->next_seq - 1, name);
}

/* ---- begin ---- */

/* May this be a segment of that channel that is being written? */
static bool is_open_name(const char *channel, const char *name)
{
    return channel_name_is_valid(channel) && avro_log_name_is_of(name, channel) &&
           avro_log_name_ends_in(name, AVRO_LOG_OPEN_SUFFIX);
}

int segments_begin(const char *log_dir, const struct message_begin_segment *request)
{
    struct stat status;
    if (!is_open_name(request->channel, request->from) ||
        !is_open_name(request->channel, request->to)) {
        log_error(
            "channel %s: refused to rename \"%s\" to \"%s\": not names of this channel's segments",
            request->channel, request->from, request->to);
        return -EINVAL;
    }
    int folder = folder_open(log_dir, request->channel, false);
    int result = folder < 0 ? folder : 0;
    if (result == 0)
        result = file_name_change(folder, request->from, request->to);
    if (result == -ENOENT && fstatat(folder, request->to, &status, AT_SYMLINK_NOFOLLOW) == 0)
        result = 0; /* an archive before this one did it */
    else if (result == 0 && fsync(folder) < 0)
        result = -errno;
    fd_close(&folder);
    if (result < 0)
        log_warning(
            "channel %s: the segment %s could not be renamed to %s: %s; it keeps its name until it "
            "is sealed",
            request->channel, request->from, request->to, strerror(-result));
    return result;
}

/* ---- seal ---- */

/* Does a block, or the file header, end at length? A length may come from memory that a dead worker
 * has left. */
static bool ends_soundly(int fd, uint64_t length)
{
    uint8_t end[AVRO_LOG_SYNC_SIZE];
    struct avro_log_identity identity;
    const char *what;
    long header_size = avro_log_load_header(fd, &identity, &what);
    return header_size > 0 && length >= (uint64_t)header_size &&
           pread(fd, end, sizeof end, (off_t)(length - sizeof end)) == (ssize_t)sizeof end &&
           memcmp(end, identity.sync, sizeof end) == 0;
}

static int recover_instead(int folder, const char *name, const struct message_seal *request,
                           struct message_sealed *ret)
{
    struct unfinished_outcome outcome;
    /* What lies behind is in a later file. */
    struct unfinished file = {
        .folder = folder,
        .channel = request->channel,
        .name = name,
        .copy = request->copy != 0,
        .options = {.open = true,
                    .seq_end = UINT64_MAX,
                    .size_end = request->length == UINT64_MAX ? 0 : request->length}};
    int result = unfinished_finish_alone(&file, &outcome);
    if (result < 0)
        return result;
    snprintf(ret->name, sizeof ret->name, "%s", outcome.name);
    ret->length = outcome.length;
    return 0;
}

/* Does the file itself say so? A length comes from a worker, which may be wrong about it. */
static bool is_empty(int fd)
{
    const struct avro_log_scan_options open = {.open = true, .seq_end = UINT64_MAX};
    struct avro_log_summary summary;
    if (avro_log_is_blank(fd) == 1)
        return true;
    return avro_log_scan(fd, &open, NULL, &summary) == 0 && summary.has_header &&
           summary.records == 0 && summary.records_after_fault == 0;
}

static int remove_empty(int folder, int fd, const char *name, const struct message_seal *request,
                        struct message_sealed *ret)
{
    struct unfinished_outcome outcome = {0};
    const struct unfinished file = {.folder = folder, .channel = request->channel, .name = name};
    int result = unfinished_finish_empty(&file, fd, "it is unused", &outcome);
    memcpy(ret->name, outcome.name, sizeof ret->name);
    ret->length = outcome.length;
    return result;
}

/* What is in it goes into its header, so it is read once: its pages are still in memory, as a rule
 * (64 MiB of small records take 30 ms). That it can't be read is no reason not to seal it: its
 * header goes without. 1: it is damaged; 0 or -errno. */
static int write_totals(int folder, int fd, const struct message_seal *request)
{
    const struct avro_log_scan_options sealed = {.seq_end = UINT64_MAX};
    struct avro_log_summary summary;
    int result = avro_log_scan(fd, &sealed, NULL, &summary);
    if (result == 0 && summary.faults == 0)
        return segment_header_finish(folder, request->channel, fd, &summary);
    if (result == 0)
        return 1;
    log_warning(
        "channel %s: %s can't be read through while it is sealed: %s; its header does not say what "
        "is in it",
        request->channel, request->name, strerror(-result));
    return 0;
}

static int finish_opened(int folder, int fd, const char *name, const struct message_seal *request,
                         struct message_sealed *ret)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (status.st_ino != request->id)
        return -ESTALE;
    if (request->length == 0 && is_empty(fd))
        return remove_empty(folder, fd, name, request, ret);
    if (request->length == 0)
        log_warning("channel %s: %s is said to hold nothing, and does not look like that: "
                    "recovered instead",
                    request->channel, request->name);
    if (request->length == 0 || request->length == UINT64_MAX || request->copy)
        return recover_instead(folder, name, request, ret);
    if (request->length > (uint64_t)status.st_size || !ends_soundly(fd, request->length)) {
        log_info("channel %s: %s has no sealed end at %llu bytes; recovering it up to there",
                 request->channel, request->name, (unsigned long long)request->length);
        return recover_instead(folder, name, request, ret);
    }
    if (ftruncate(fd, (off_t)request->length) < 0)
        return -errno;
    int result = write_totals(folder, fd, request);
    /* A stock reader would end at the first fault: what is sound is copied, if there is room. */
    if (result == 1 && recover_instead(folder, name, request, ret) == 0)
        return 0;
    if (result == 1)
        log_warning("channel %s: %s is damaged, and could not be mended while it was sealed; "
                    "holdfastctl recover copies what is sound",
                    request->channel, request->name);
    if (result < 0 || fsync(fd) < 0)
        return result < 0 ? result : -errno;
    ret->length = request->length;
    return folder_rename(folder, name, request->name, AVRO_LOG_SUFFIX, ret->name);
}

/* name: what it is called now. */
static int finish_segment(int folder, const char *name, const struct message_seal *request,
                          struct message_sealed *ret)
{
    int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    int result = fd < 0 ? -errno : finish_opened(folder, fd, name, request, ret);
    fd_close(&fd);
    return result;
}

/* Is there a file of this kind that is the one meant? */
static bool is_called(int folder, const struct message_seal *request, const char *suffix, int n,
                      struct stat *ret)
{
    return folder_has(folder, request->name, suffix, n, ret) && ret->st_ino == request->id;
}

/* The file isn't there under its open name: an archive before this one may have sealed it and died
 * before answering. Where it mended it, the file itself is set aside. */
static int find_sealed(int folder, const struct message_seal *request, struct message_sealed *ret)
{
    struct stat status;
    ret->name[0] = '\0';
    for (int n = 1; n <= FOLDER_NUMBERS; n++) {
        if (is_called(folder, request, AVRO_LOG_SUFFIX, n, &status)) {
            folder_number_name(request->name, AVRO_LOG_SUFFIX, n, ret->name);
            ret->length = (uint64_t)status.st_size;
            return 0;
        }
        if (is_called(folder, request, AVRO_LOG_DAMAGED_SUFFIX, n, &status)) {
            folder_number_name(request->name, AVRO_LOG_SUFFIX, n, ret->name);
            if (fstatat(folder, ret->name, &status, AT_SYMLINK_NOFOLLOW) == 0)
                ret->length = (uint64_t)status.st_size;
            else
                ret->name[0] = '\0'; /* it had no sound record */
            return 0;
        }
    }
    return -ENOENT;
}

/* Is this file, which has its inode number and another name, the one meant? Such numbers are used
 * again, so that it may be the next segment already. It is if its header says that it should have
 * that name; where no header can be read, but something was written, if it is in nobody's hands. 1,
 * 0, or -EBUSY: that can't be told yet. */
static int is_the_one(int folder, const char *name, const struct message_seal *request)
{
    char begun_name[SEGMENT_NAME_SIZE];
    struct avro_log_identity identity;
    const char *what;
    int result = 0;
    int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    if (avro_log_load_header(fd, &identity, &what) > 0) {
        avro_log_segment_name(request->channel, identity.first_seq, identity.created_ns,
                              begun_name);
        result = strcmp(begun_name, request->name) == 0;
    } else if (avro_log_is_blank(fd) == 0) {
        result = file_lock_await_writers(fd, 0) == -EBUSY ? -EBUSY : 1;
    }
    fd_close(&fd);
    return result;
}

/* It could not be given the name that it was begun with: what it is called instead. 1, 0 when there
 * is none, or -errno. */
static int find_by_id(int folder, const struct message_seal *request,
                      char ret_name[SEGMENT_NAME_SIZE])
{
    struct folder_list list;
    int result = folder_list(folder, request->channel, &list);
    for (size_t i = 0; i < list.count && result == 0; i++) {
        const char *name = list.files[i].name;
        if (list.files[i].id != request->id || !avro_log_name_ends_in(name, AVRO_LOG_OPEN_SUFFIX))
            continue;
        result = is_the_one(folder, name, request);
        snprintf(ret_name, SEGMENT_NAME_SIZE, "%s", name);
    }
    folder_list_free(&list);
    return result;
}

/* It was sealed, and then the disk refused part of it: as if it had not been. */
static int copy_sealed(int folder, const char *name, const struct message_seal *request,
                       struct message_sealed *ret)
{
    int result = folder_rename_to(folder, name, request->name);
    return result < 0 ? result : finish_segment(folder, request->name, request, ret);
}

/* Under its name, under another one, or as an archive before this one has left it. */
static int seal_in(int folder, const struct message_seal *request, struct message_sealed *ret)
{
    struct stat status;
    char name[SEGMENT_NAME_SIZE];
    int result = finish_segment(folder, request->name, request, ret);
    if (result != -ENOENT && result != -ESTALE)
        return result;
    int found = find_by_id(folder, request, name);
    if (found < 0)
        return found;
    if (found > 0)
        return finish_segment(folder, name, request, ret);
    bool removed = result == -ENOENT && (request->length == 0 || request->length == UINT64_MAX);
    found = find_sealed(folder, request, ret);
    if (found == 0 && request->copy &&
        fstatat(folder, ret->name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        status.st_ino == request->id)
        return copy_sealed(folder, ret->name, request, ret);
    return found == 0 || removed ? 0 : result; /* removed: nothing was in it */
}

void segments_seal(const char *log_dir, const struct message_seal *request,
                   struct message_sealed *ret)
{
    memset(ret, 0, sizeof *ret);
    snprintf(ret->channel, sizeof ret->channel, "%s", request->channel);
    snprintf(ret->name, sizeof ret->name, "%s", request->name);
    ret->id = request->id;
    int folder = -1, result = -EINVAL;
    if (is_open_name(request->channel, request->name))
        result = folder = folder_open(log_dir, request->channel, false);
    if (folder >= 0)
        result = seal_in(folder, request, ret);
    fd_close(&folder);
    if (result >= 0)
        return;
    ret->error = -result;
    snprintf(ret->name, sizeof ret->name, "%s", request->name);
    if (result == -ENOENT)
        snprintf(ret->reason, sizeof ret->reason,
                 "it is not in %.48s/%s any more: somebody has moved or removed it", log_dir,
                 request->channel);
    else if (result == -ESTALE)
        snprintf(ret->reason, sizeof ret->reason,
                 "another file has its name in %.48s/%s; left alone", log_dir, request->channel);
    else
        folder_explain(log_dir, request->channel, -result, ret->reason);
}
