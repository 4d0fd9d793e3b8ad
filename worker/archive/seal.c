/* SPDX-License-Identifier: MIT */
/* The end of a segment's life as an open file: sealed, mended or removed. Called by archive.c for
 * SEAL; may block on the disk. Must never truncate or rename a file that isn't the one meant, which
 * is checked by inode and by content; each step may be repeated after a crash in the middle, and an
 * archive before this one may have done any part of it. */
#include "worker/archive/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_end.h"
#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "common/disk_refusal.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "worker/archive/file_lock.h"
#include "worker/archive/folder.h"
#include "worker/archive/mending.h"
#include "worker/archive/segment_header.h"
#include "worker/archive/unfinished.h"

/* For a recovery in the folder; the others wait meanwhile. */
#define LOCK_PATIENCE_NS NS_PER_S

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
    if (request->length == 0 || request->length == UINT64_MAX || request->copy ||
        disk_refusal_in_mode(status.st_mode))
        return recover_instead(folder, name, request, ret);
    if (request->length > (uint64_t)status.st_size || !ends_soundly(fd, request->length)) {
        log_info("channel %s: %s has no sealed end at %llu bytes; recovering it up to there",
                 request->channel, request->name, (unsigned long long)request->length);
        return recover_instead(folder, name, request, ret);
    }
    if (ftruncate(fd, (off_t)request->length) < 0)
        return -errno;
    int result = write_totals(folder, fd, request);
    /* A stock reader would end at the first fault: what is sound is copied, now or later. */
    if (result == 1)
        return recover_instead(folder, name, request, ret);
    result = result < 0 ? result : disk_refusal_sync(fd, fsync);
    if (result < 0)
        return result;
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

/* ---- what an archive before this one may have done ---- */

/* Was it the one meant that got this name, sealed or set aside? One that was to be sealed under a
 * prepared name got the one that is in its header. */
static bool may_be_named(const struct message_seal *request, const char *name)
{
    size_t stem = strlen(request->name) - strlen(AVRO_LOG_OPEN_SUFFIX);
    return avro_log_name_is_prepared(request->name, request->channel) ||
           (strncmp(name, request->name, stem) == 0 && (name[stem] == '.' || name[stem] == '-'));
}

static int note_sealed(int folder, const char *name, struct message_sealed *ret)
{
    struct stat status;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    snprintf(ret->name, sizeof ret->name, "%s", name);
    ret->length = (uint64_t)status.st_size;
    return 0;
}

/* It is set aside: its sound records are beside it, perhaps not under their name yet. */
static int find_copy(int folder, const char *damaged, const struct message_seal *request,
                     struct message_sealed *ret)
{
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    folder_open_name(damaged, AVRO_LOG_DAMAGED_SUFFIX, open_name);
    folder_number_name(open_name, AVRO_LOG_SUFFIX, 1, name);
    int result = note_sealed(folder, name, ret);
    if (result != -ENOENT)
        return result;
    result = mending_finish_copy_of(folder, request->channel, open_name, name);
    if (result > 0)
        return note_sealed(folder, name, ret);
    ret->name[0] = '\0'; /* 0: it had no sound record */
    return result;
}

/* The file isn't there under its open name: an archive before this one may have sealed it and died
 * before answering. 0, -ENOENT when it isn't there at all, or -errno. */
static int find_sealed(int folder, const struct message_seal *request, struct message_sealed *ret)
{
    struct folder_list list;
    int result = folder_list(folder, request->channel, &list);
    bool found = false;
    for (size_t i = 0; i < list.count && result == 0 && !found; i++) {
        const char *name = list.files[i].name;
        if (list.files[i].id != request->id || !may_be_named(request, name))
            continue;
        found = true;
        if (avro_log_name_ends_in(name, AVRO_LOG_SUFFIX))
            result = note_sealed(folder, name, ret);
        else if (avro_log_name_ends_in(name, AVRO_LOG_DAMAGED_SUFFIX))
            result = find_copy(folder, name, request, ret);
        else
            found = false;
    }
    folder_list_free(&list);
    return result == 0 && !found ? -ENOENT : result;
}

/* It was sealed, and then the disk refused part of it. */
static int copy_sealed(int folder, const struct message_seal *request, struct message_sealed *ret)
{
    struct unfinished_outcome outcome;
    char name[SEGMENT_NAME_SIZE];
    struct unfinished file = {
        .folder = folder, .channel = request->channel, .name = name, .copy = true};
    memcpy(name, ret->name, sizeof name);
    int result = unfinished_copy_sealed(&file, &outcome);
    if (result == 0)
        result = note_sealed(folder, outcome.name, ret);
    return result;
}

static bool is_the_file(int folder, const char *name, uint64_t id)
{
    struct stat status;
    return fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_ino == id;
}

/* It is nowhere. Nothing was in it, or, where an archive before this one may have done its work, it
 * had no record, or was copied and removed. */
static bool may_be_done(int folder, const struct message_seal *request, struct message_sealed *ret)
{
    char name[SEGMENT_NAME_SIZE];
    ret->name[0] = '\0';
    if (request->length == 0)
        return true;
    if (!request->again)
        return false;
    for (int n = FOLDER_NUMBERS; n > 0 && request->copy; n--) {
        folder_number_name(request->name, AVRO_LOG_SUFFIX, n, name);
        if (note_sealed(folder, name, ret) == 0)
            return true;
    }
    return request->length == UINT64_MAX;
}

/* Under its name, under another one, or as an archive before this one has left it. */
static int seal_in(int folder, const struct message_seal *request, struct message_sealed *ret)
{
    char name[SEGMENT_NAME_SIZE];
    int result = finish_segment(folder, request->name, request, ret);
    if (result != -ENOENT && result != -ESTALE)
        return result;
    int found = find_by_id(folder, request, name);
    if (found < 0)
        return found;
    if (found > 0)
        return finish_segment(folder, name, request, ret);
    found = find_sealed(folder, request, ret);
    if (found == 0 && request->copy && is_the_file(folder, ret->name, request->id))
        return copy_sealed(folder, request, ret);
    if (found != -ENOENT)
        return found;
    return result == -ENOENT && may_be_done(folder, request, ret) ? 0 : result;
}

void seal_run(const char *log_dir, const struct message_seal *request, struct message_sealed *ret)
{
    memset(ret, 0, sizeof *ret);
    snprintf(ret->channel, sizeof ret->channel, "%s", request->channel);
    snprintf(ret->name, sizeof ret->name, "%s", request->name);
    ret->id = request->id;
    int folder = -1, lock = -1, result = -EINVAL;
    if (folder_is_open_name(request->channel, request->name))
        result = folder = folder_open(log_dir, request->channel, false);
    if (folder >= 0)
        result = folder_lock(folder, LOCK_PATIENCE_NS, &lock);
    if (result >= 0)
        result = seal_in(folder, request, ret);
    fd_close(&lock);
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
