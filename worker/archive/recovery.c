/* SPDX-License-Identifier: MIT */
/* Finishes what a crash or a power cut left unfinished in a channel's folder. Called by archive.c
 * for RECOVER, by segments.c for a SEAL whose length nobody knows or the file doesn't confirm.
 * Every sound record is kept and no other; a crash at any point of it leaves files that the next
 * recovery finishes. Must never change a file that somebody may write to: RECOVER waits until no
 * process has it (as far as the file system knows locks) and only reads what it was told to keep;
 * SEAL takes the supervisor's word that its worker has given the file up, though it may still have
 * it open. */
#include "worker/archive/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/avro_log_copy.h"
#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "worker/archive/folder.h"
#include "worker/archive/segment_header.h"

/* Workers of a daemon that was killed notice and leave within this time. */
#define HOLDER_PATIENCE_NS (2 * NS_PER_S)
#define HOLDER_POLL_NS     (20 * NS_PER_MS)

/* ---- one file ---- */

static int discard(int folder, const char *channel, const char *name, const char *why)
{
    if (unlinkat(folder, name, 0) < 0)
        return -errno;
    log_info("%s: removed %s: %s", channel, name, why);
    return 0;
}

static int set_aside(int folder, const char *channel, const char *name, const char *what)
{
    char damaged[SEGMENT_NAME_SIZE];
    int result = folder_rename(folder, name, name, AVRO_LOG_DAMAGED_SUFFIX, damaged);
    if (result == 0)
        log_warning("%s: %s can't be read (%s); kept as %s", channel, name, what, damaged);
    return result;
}

/* The header of a file in the folder: its length, -EBADMSG when there is none, or -errno. */
static long load_header(int folder, const char *name, struct avro_log_identity *ret)
{
    const char *what;
    memset(ret, 0, sizeof *ret);
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    long size = avro_log_load_header(fd, ret, &what);
    fd_close(&fd);
    return size;
}

/* The name that a file should have had when it was begun. */
static void proper_open_name(const char *channel, const char *name,
                             const struct avro_log_identity *identity,
                             char ret_name[SEGMENT_NAME_SIZE])
{
    if (avro_log_name_is_prepared(name, channel))
        avro_log_segment_name(channel, identity->first_seq, identity->created_ns, ret_name);
    else
        snprintf(ret_name, SEGMENT_NAME_SIZE, "%s", name);
}

/* Everything sound lies in one piece: seal the last block, cut off what follows. In whatever order
 * these writes reach the disk, a scan finds the same records again. */
static int finish_in_place(int folder, int fd, const char *name,
                           const struct avro_log_summary *summary, struct recovery_outcome *ret)
{
    const char *channel = summary->identity.channel;
    uint8_t header[AVRO_LOG_BLOCK_HEADER_SIZE];
    char open_name[SEGMENT_NAME_SIZE];
    const struct avro_log_block *block = &summary->last_block;
    uint64_t end = block->offset + AVRO_LOG_BLOCK_HEADER_SIZE + block->size;

    avro_log_write_block_header(header, block->count, block->size);
    int result = fd_write_all(fd, summary->identity.sync, AVRO_LOG_SYNC_SIZE, end);
    if (result == 0)
        result = fd_write_all(fd, header, sizeof header, block->offset);
    if (result == 0)
        result = segment_header_finish(folder, channel, fd, summary);
    if (result == 0 && (ftruncate(fd, (off_t)(end + AVRO_LOG_SYNC_SIZE)) < 0 || fsync(fd) < 0))
        result = -errno;
    if (result < 0)
        return result;
    ret->length = end + AVRO_LOG_SYNC_SIZE;
    proper_open_name(channel, name, &summary->identity, open_name);
    return folder_rename(folder, name, open_name, AVRO_LOG_SUFFIX, ret->name);
}

/* What the file is called, or was, whose sound records are being copied to this one. */
#define ORIGINAL_NAME_SIZE (SEGMENT_NAME_SIZE + sizeof AVRO_LOG_OPEN_SUFFIX)
static void original_name(const char *mending, char ret_name[ORIGINAL_NAME_SIZE])
{
    snprintf(ret_name, ORIGINAL_NAME_SIZE, "%.*s" AVRO_LOG_OPEN_SUFFIX,
             (int)(strlen(mending) - strlen(AVRO_LOG_MENDING_SUFFIX)), mending);
}

/* Give a complete copy of sound records its name. */
static int finish_mending(int folder, const char *channel, const char *mending,
                          char ret_name[SEGMENT_NAME_SIZE])
{
    char original[ORIGINAL_NAME_SIZE], open_name[SEGMENT_NAME_SIZE];
    struct avro_log_identity identity;
    long size = load_header(folder, mending, &identity);
    if (size < 0)
        return (int)size;
    original_name(mending, original);
    if (strlen(original) >= SEGMENT_NAME_SIZE)
        return -ENAMETOOLONG;
    proper_open_name(channel, original, &identity, open_name);
    return folder_rename(folder, mending, open_name, AVRO_LOG_SUFFIX, ret_name);
}

/* Sound records follow a fault: copy them all into a new file, keep the original beside it. The
 * copy is complete and synced before the original loses its name, so a .mending without its .open
 * is as good as done. */
static int mend(int folder, int fd, const char *name, const struct avro_log_copy *copy_wanted,
                struct recovery_outcome *ret)
{
    struct avro_log_copy copy = *copy_wanted;
    struct avro_log_summary summary;
    const char *channel = copy.channel;
    uint8_t log_id[AVRO_LOG_ID_SIZE];
    char mending[SEGMENT_NAME_SIZE], damaged[SEGMENT_NAME_SIZE];
    struct stat status = {0};

    folder_number_name(name, AVRO_LOG_MENDING_SUFFIX, 1, mending);
    copy.from_fd = fd;
    copy.to_fd = openat(folder, mending, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (copy.to_fd < 0)
        return -errno;
    if (segment_header_log_id(folder, channel, log_id) == 1)
        copy.log_id = log_id;
    copy.latest_before_ns = segment_header_latest_before(folder, channel, ret->first_seq);
    int result = avro_log_copy(&copy, &summary);
    if (result == 0 && (fsync(copy.to_fd) < 0 || fstat(copy.to_fd, &status) < 0))
        result = -errno;
    fd_close(&copy.to_fd);
    if (result == 0 && fsync(folder) < 0)
        result = -errno;
    if (result < 0) {
        unlinkat(folder, mending, 0);
        return result;
    }
    ret->length = (uint64_t)status.st_size;
    result = folder_rename(folder, name, name, AVRO_LOG_DAMAGED_SUFFIX, damaged);
    if (result == 0)
        result = finish_mending(folder, channel, mending, ret->name);
    if (result == 0)
        log_warning("%s: %s is damaged (%llu faults, the first at byte %llu: %s); its %llu sound "
                    "records are in %s, the original is kept as %s",
                    channel, name, (unsigned long long)summary.faults,
                    (unsigned long long)summary.fault_offset, summary.fault_what,
                    (unsigned long long)summary.records, ret->name, damaged);
    return result;
}

static int finish_scanned(int folder, int fd, const char *name, const struct avro_log_copy *copy,
                          struct recovery_outcome *ret)
{
    struct avro_log_summary summary;
    const char *channel = copy->channel;
    int result = avro_log_scan(fd, &copy->options, NULL, &summary);
    if (result < 0)
        return result;
    if (summary.records == 0 && !summary.has_header) {
        int blank = avro_log_is_blank(fd);
        if (blank < 0)
            return blank;
        return blank ? discard(folder, channel, name, "it was prepared and never begun")
                     : set_aside(folder, channel, name, summary.fault_what);
    }
    if (summary.records == 0)
        return discard(folder, channel, name, "no record in it");
    ret->has_records = true;
    ret->first_seq = summary.has_header ? summary.identity.first_seq : summary.first_seq;
    ret->last_seq = summary.last_seq;
    if (summary.records_after_fault > 0 || !summary.has_header)
        return mend(folder, fd, name, copy, ret);
    /* Its folder's, for its name. */
    snprintf(summary.identity.channel, sizeof summary.identity.channel, "%s", channel);
    result = finish_in_place(folder, fd, name, &summary, ret);
    if (result == 0)
        log_notice("%s: recovered %s: %llu records, up to number %llu", channel, ret->name,
                   (unsigned long long)summary.records, (unsigned long long)summary.last_seq);
    return result;
}

static int finish_file(int folder, const char *channel, const char *name,
                       const struct avro_log_scan_options *options, struct recovery_outcome *ret)
{
    const struct avro_log_copy copy = {.options = *options, .channel = channel};
    memset(ret, 0, sizeof *ret);
    int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int result = finish_scanned(folder, fd, name, &copy, ret);
    fd_close(&fd);
    return result;
}

/* The first number of an open file by its header; UINT64_MAX if it can't be read. */
static uint64_t header_first_seq(int folder, const char *name)
{
    struct avro_log_identity identity;
    return load_header(folder, name, &identity) < 0 ? UINT64_MAX : identity.first_seq;
}

int recovery_finish(int folder, const char *channel, const char *name, uint64_t size_end,
                    struct recovery_outcome *ret)
{
    struct avro_log_scan_options options = {
        .open = true, .seq_end = UINT64_MAX, .size_end = size_end};
    struct folder_list list;
    struct avro_log_name parts;
    uint64_t first_seq = header_first_seq(folder, name);
    int result = folder_list(folder, channel, &list);
    /* A segment bears its number once it is committed to. */
    for (size_t i = 0; result == 0 && i < list.count; i++)
        if (avro_log_name_parse(list.files[i].name, channel, &parts) &&
            parts.first_seq > first_seq && parts.first_seq < options.seq_end)
            options.seq_end = parts.first_seq;
    folder_list_free(&list);
    return result < 0 ? result : finish_file(folder, channel, name, &options, ret);
}

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

static bool is_kept(const struct recovery *recovery, const char *name)
{
    for (uint32_t i = 0; i < recovery->request->keep_count && i < 2; i++)
        if (strcmp(recovery->request->keep[i], name) == 0)
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
        char original[ORIGINAL_NAME_SIZE], mended[SEGMENT_NAME_SIZE];
        if (!avro_log_name_ends_in(name, AVRO_LOG_MENDING_SUFFIX))
            continue;
        original_name(name, original);
        int result = is_listed(recovery, original)
                         ? discard(recovery->folder, channel, name,
                                   "an unfinished copy; the original is still there")
                         : finish_mending(recovery->folder, channel, name, mended);
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
static uint64_t later_file(const struct recovery *recovery, uint64_t first_seq,
                           uint64_t recovered_later)
{
    /* unknown: it belongs nowhere */
    uint64_t end = first_seq == UINT64_MAX ? UINT64_MAX : recovered_later;
    struct avro_log_name parts;
    for (size_t i = 0; i < recovery->list.count; i++) {
        const char *name = recovery->list.files[i].name;
        bool counts = avro_log_name_ends_in(name, AVRO_LOG_SUFFIX) || is_kept(recovery, name);
        if (counts && avro_log_name_parse(name, recovery->request->channel, &parts) &&
            parts.first_seq > first_seq && parts.first_seq < end)
            end = parts.first_seq;
    }
    return end;
}

/* Wait until no process has the file any more. Without locks in the file system, nobody is seen. */
static int wait_for_holders(const struct recovery *recovery, const char *name)
{
    const monotonic begun = monotonic_now();
    const struct timespec pause = {.tv_nsec = HOLDER_POLL_NS};
    int fd = openat(recovery->folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int result = 0;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        if (monotonic_since(monotonic_now(), begun) >= HOLDER_PATIENCE_NS) {
            result = -EBUSY;
            break;
        }
        nanosleep(&pause, NULL);
    }
    fd_close(&fd);
    return result;
}

static int finish_open_files(struct recovery *recovery, struct open_file *files, size_t count)
{
    uint64_t recovered_later = UINT64_MAX;
    qsort(files, count, sizeof *files, newest_first);
    for (size_t i = 0; i < count; i++) {
        struct recovery_outcome outcome = {0};
        int result = wait_for_holders(recovery, files[i].name);
        if (result == -EBUSY)
            snprintf(recovery->answer->reason, sizeof recovery->answer->reason,
                     "%.80s is still open in a process of an earlier holdfastd: it must end first",
                     files[i].name);
        const struct avro_log_scan_options options = {
            .open = true, .seq_end = later_file(recovery, files[i].first_seq, recovered_later)};
        if (result == 0)
            result = finish_file(recovery->folder, recovery->request->channel, files[i].name,
                                 &options, &outcome);
        if (result < 0)
            return result;
        if (!outcome.has_records)
            continue;
        recovery->answer->files++;
        raise_next_seq(recovery, outcome.last_seq + 1);
        if (outcome.first_seq < recovered_later)
            recovered_later = outcome.first_seq;
    }
    return 0;
}

static int finish_all(struct recovery *recovery)
{
    size_t count = 0;
    struct open_file *files = calloc(recovery->list.count + 1, sizeof *files);
    if (!files)
        return -ENOMEM;
    for (size_t i = 0; i < recovery->list.count; i++) {
        const char *name = recovery->list.files[i].name;
        if (avro_log_name_ends_in(name, AVRO_LOG_OPEN_SUFFIX) && !is_kept(recovery, name))
            files[count++] = (struct open_file){name, header_first_seq(recovery->folder, name)};
    }
    int result = finish_open_files(recovery, files, count);
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

/* The number after the last recorded one: from the newest sealed file that has a record, and from
 * those in use. Any file counts at least with the number in its name. From one that was set aside
 * unread no more than that is known: numbers that only it holds may be given again. */
static int find_next_seq(struct recovery *recovery)
{
    struct avro_log_name parts;
    bool found = false;
    uint64_t seq = 0;
    for (size_t i = recovery->list.count; i-- > 0;) {
        const char *name = recovery->list.files[i].name;
        bool sealed = avro_log_name_ends_in(name, AVRO_LOG_SUFFIX);
        if (avro_log_name_parse(name, recovery->request->channel, &parts))
            raise_next_seq(recovery, parts.first_seq);
        if (!(sealed && !found) && !is_kept(recovery, name))
            continue;
        int result = last_seq_of(recovery, name, &seq);
        if (result < 0 && result != -ENOENT)
            return result;
        if (result <= 0)
            continue;
        found |= sealed;
        raise_next_seq(recovery, seq + 1);
    }
    return 0;
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
    int result = recovery.folder < 0 ? recovery.folder : list_again(&recovery);
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
