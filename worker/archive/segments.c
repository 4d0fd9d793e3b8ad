/* SPDX-License-Identifier: MIT */
/* The beginning of a segment's life on disk: made and preallocated, begun; seal.c has its end.
 * Called by archive.c for one message each; may block on the disk. Must never rename a file that
 * isn't the one meant: it is known by its unique name; and each step may be repeated after a crash
 * in the middle. */
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
    char prepared[SEGMENT_NAME_SIZE], open_name[SEGMENT_NAME_SIZE];
    struct avro_log_identity identity = {.first_seq = request->next_seq};
    memcpy(identity.channel, request->channel, sizeof identity.channel);
    memcpy(identity.listen, request->listen, sizeof identity.listen);
    int result = segment_header_new_identity(folder, &identity);
    if (result < 0)
        return result;
    int fd = create_prepared(folder, request->channel, prepared);
    if (fd < 0)
        return fd;
    result = segment_header_begin(fd, &identity);
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

void segments_note_numbers(const char *log_dir, const struct message_numbers *request,
                           struct message_numbered *ret)
{
    char name[SEGMENT_NAME_SIZE] = "";
    memset(ret, 0, sizeof *ret);
    snprintf(ret->channel, sizeof ret->channel, "%s", request->channel);
    ret->next_seq = request->next_seq;
    int folder = folder_open(log_dir, request->channel, true);
    int result = folder < 0 ? folder : 0;
    if (result == 0 &&
        !segment_header_is_remembered(folder, request->channel, request->next_seq, 0))
        result = make_empty(folder, request, name);
    fd_close(&folder);
    ret->error = -result;
    if (result < 0)
        folder_explain(log_dir, request->channel, -result, ret->reason);
    else if (name[0])
        log_notice("channel %s: datagrams up to number %llu were received and could not be "
                   "recorded; the log goes on behind them (%s)",
                   request->channel, (unsigned long long)request->next_seq - 1, name);
}

/* ---- begin ---- */

int segments_begin(const char *log_dir, const struct message_begin_segment *request)
{
    struct stat status;
    if (!folder_is_open_name(request->channel, request->from) ||
        !folder_is_open_name(request->channel, request->to)) {
        log_error(
            "channel %s: refused to rename \"%s\" to \"%s\": not names of this channel's segments",
            request->channel, request->from, request->to);
        return -EINVAL;
    }
    int folder = folder_open(log_dir, request->channel, false);
    int result = folder < 0 ? folder : 0;
    if (result == 0)
        result = file_name_change(folder, request->from, request->to);
    if (result == -ENOENT && (fstatat(folder, request->to, &status, AT_SYMLINK_NOFOLLOW) == 0 ||
                              folder_has(folder, request->to, AVRO_LOG_SUFFIX, 1, &status)))
        result = 0; /* an archive before this one did it, and perhaps more */
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
