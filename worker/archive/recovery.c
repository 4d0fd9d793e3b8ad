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

#include "common/avro_log_name.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "worker/archive/contents.h"
#include "worker/archive/file_lock.h"
#include "worker/archive/folder.h"
#include "worker/archive/leftovers.h"
#include "worker/archive/mending.h"
#include "worker/archive/recovery_numbers.h"
#include "worker/archive/segment_header.h"
#include "worker/archive/unfinished.h"

/* Workers of a daemon that was killed notice and leave within this time. */
#define HOLDER_PATIENCE_NS (2 * NS_PER_S)
/* For another recovery in the same folder */
#define LOCK_PATIENCE_NS (10 * NS_PER_S)

/* ---- a channel's folder ---- */

struct open_file {
    const struct folder_file *file;
    bool bare;          /* no record is in it */
    uint64_t first_seq; /* UINT64_MAX when it has none: nothing was begun */
    uint64_t last_seq;  /* where another one begins at the same number */
    bool bounds;        /* done, or to be done later, and this is where its records begin: */
    uint64_t begins_at;
};

struct recovery {
    int folder;
    const struct message_recover *request;
    struct message_recovered *answer;
    struct folder_list list;
    struct open_file *files; /* to be finished, newest first; of this list */
    size_t count;
    struct recovery_numbers numbers;
};

/* One file's trouble is no reason to record nothing any more. true: it is dealt with, go on. False
 * for what is nobody's trouble in particular, and for a file that somebody still writes to. */
static bool live_with(const struct recovery *recovery, const char *name, int error, bool unreadable)
{
    const char *channel = recovery->request->channel;
    const bool was_told = recovery->request->flags & RECOVER_AGAIN;
    const enum log_level level = was_told ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING;
    if (unreadable)
        return unfinished_set_aside(recovery->folder, channel, name,
                                    "the disk can't read all of it") == 0;
    switch (error) {
    case -EBUSY:
    case -ENOMEM:
    case -EMFILE:
    case -ENFILE:
        return false;
    case -EIO:
        recovery->answer->left++;
        log_line(level,
                 "channel %s: the disk has refused to finish %s: %s; it stays as it is for now",
                 channel, name, strerror(-error));
        return true;
    case -ENOSPC:
    case -EDQUOT:
        recovery->answer->left++;
        log_line(
            level,
            "channel %s: there is no space to mend %s: %s; it stays as it is for now; free some",
            channel, name, strerror(-error));
        return true;
    default:
        recovery->answer->left++;
        log_line(
            level,
            "channel %s: %s can't be finished: %s; it stays as it is for now; look at what is in "
            "the way in its folder",
            channel, name, strerror(-error));
        return true;
    }
}

/* A recovery, or a SEAL, before this one was interrupted. */
static int resume_mending(struct recovery *recovery)
{
    const char *channel = recovery->request->channel;
    for (size_t i = 0; i < recovery->list.count; i++) {
        const char *name = recovery->list.files[i].name;
        if (!avro_log_name_ends_in(name, AVRO_LOG_MENDING_SUFFIX))
            continue;
        int result = mending_resume(recovery->folder, channel, name);
        if (result == -EBADMSG) /* none of ours: a copy is whole before its original goes */
            result =
                unfinished_set_aside(recovery->folder, channel, name, "a copy that can't be read");
        if (result < 0 && !live_with(recovery, name, result, false))
            return result;
    }
    return 0;
}

static bool has_another_name(const struct recovery *recovery, const struct folder_file *file)
{
    const char *channel = recovery->request->channel;
    for (size_t i = 0; i < recovery->list.count; i++)
        if (recovery->list.files[i].id == file->id &&
            !avro_log_name_is_prepared(recovery->list.files[i].name, channel))
            return true;
    return false;
}

/* Where a name is changed by a second link, an archive may have been killed between the two: the
 * segment has been begun. */
static int drop_first_names(struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->list.count; i++) {
        const struct folder_file *file = &recovery->list.files[i];
        if (file->links > 1 && avro_log_name_is_prepared(file->name, recovery->request->channel) &&
            avro_log_name_ends_in(file->name, AVRO_LOG_OPEN_SUFFIX) &&
            !recovery_numbers_is_kept(recovery->request, file) && has_another_name(recovery, file))
            unlinkat(recovery->folder, file->name, 0); /* else it is taken for another segment */
    }
    return 0;
}

/* They were sealed, and then the disk refused part of them; who was to have them copied has ended,
 * or there was no room. */
static int copy_refused(struct recovery *recovery)
{
    struct unfinished sealed = {
        .folder = recovery->folder, .channel = recovery->request->channel, .copy = true};
    struct unfinished_outcome outcome;
    for (size_t i = 0; i < recovery->list.count; i++) {
        const struct folder_file *file = &recovery->list.files[i];
        if (!file->refused || !avro_log_name_ends_in(file->name, AVRO_LOG_SUFFIX))
            continue;
        sealed.name = file->name;
        int result = unfinished_copy_sealed(&sealed, &outcome);
        if (result < 0 && !live_with(recovery, file->name, result, outcome.unreadable))
            return result;
    }
    return 0;
}

/* Those without records at the end: what the others have tells whether their numbers must be
 * remembered. */
static int newest_first(const void *a, const void *b)
{
    const struct open_file *left = a, *right = b;
    if (left->bare != right->bare)
        return left->bare ? 1 : -1;
    if (left->first_seq == right->first_seq)
        return left->last_seq < right->last_seq ? 1 : left->last_seq > right->last_seq ? -1 : 0;
    return left->first_seq < right->first_seq ? 1 : -1;
}

static bool has_twin(const struct recovery *recovery, const struct open_file *file)
{
    for (size_t i = 0; i < recovery->count; i++)
        if (&recovery->files[i] != file && recovery->files[i].first_seq == file->first_seq)
            return true;
    return false;
}

/* Of those that begin at one number, the one that goes on for longest is finished first: what the
 * others have is in it, or is kept beside. */
static void find_last_seqs(struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->count; i++) {
        struct open_file *file = &recovery->files[i];
        if (has_twin(recovery, file))
            file->last_seq = contents_last_seq(recovery->folder, file->file->name);
    }
}

static void end_at(struct unfinished *file, uint64_t later)
{
    if (later < file->options.seq_end)
        file->options.seq_end = later;
}

/* A sealed file with records. One without has none that another may have, too. */
static bool is_sealed(const struct recovery *recovery, const struct folder_file *file)
{
    return avro_log_name_ends_in(file->name, AVRO_LOG_SUFFIX) &&
           contents_are_bare(recovery->folder, file->name) != 1;
}

/* One that begins at the same number may have been sealed already, by a recovery that ended before
 * it came to this one, or while this one could not be. 1 if it, or others, have all of its records;
 * 0 or -errno. */
static int is_sealed_twin(const struct recovery *recovery, uint64_t first_seq, int fd)
{
    for (size_t i = 0; i < recovery->list.count; i++) {
        const struct folder_file *other = &recovery->list.files[i];
        if (first_seq != UINT64_MAX && other->first_seq == first_seq && is_sealed(recovery, other))
            return leftovers_are_elsewhere(recovery->folder, recovery->request->channel, fd,
                                           first_seq);
    }
    return 0;
}

/* Where the file after the one that begins at first_seq begins. A worker that died while it went
 * over to a new segment may have left records behind the old one's end that the new one has too. */
static void find_end(const struct recovery *recovery, uint64_t first_seq, struct unfinished *file)
{
    file->options.seq_end = UINT64_MAX;
    if (first_seq == UINT64_MAX)
        return; /* unknown: it belongs nowhere */
    for (size_t i = 0; i < recovery->count; i++)
        if (recovery->files[i].bounds && recovery->files[i].begins_at >= first_seq)
            end_at(file, recovery->files[i].begins_at);
    for (size_t i = 0; i < recovery->list.count; i++) {
        const struct folder_file *other = &recovery->list.files[i];
        uint64_t begins_at = other->first_seq;
        if (recovery_numbers_is_kept(recovery->request, other)) /* not renamed yet, maybe */
            begins_at = contents_first_seq(recovery->folder, other);
        else if (begins_at <= first_seq || begins_at >= file->options.seq_end ||
                 !is_sealed(recovery, other))
            continue;
        if (begins_at > first_seq)
            end_at(file, begins_at);
    }
}

/* Wait until no process writes to the file any more, and keep it locked until *ret_fd is closed:
 * nobody gets it while it is being finished. Without locks in the file system, nobody is seen. */
static int wait_for_holders(const struct recovery *recovery, const char *name, int *ret_fd)
{
    int fd = openat(recovery->folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    bool busy = file_lock_await_writers(fd, HOLDER_PATIENCE_NS) == -EBUSY;
    if (busy)
        fd_close(&fd);
    *ret_fd = fd;
    return busy ? -EBUSY : 0;
}

static int finish_open_file(struct recovery *recovery, struct open_file *file)
{
    const char *name = file->file->name;
    struct unfinished_outcome outcome = {0};
    struct unfinished unfinished = {.folder = recovery->folder,
                                    .channel = recovery->request->channel,
                                    .name = name,
                                    .options = {.open = true}};
    int held = -1;
    int result = wait_for_holders(recovery, name, &held);
    if (result == -EBUSY)
        snprintf(recovery->answer->reason, sizeof recovery->answer->reason,
                 "%.80s is still open in a process of an earlier holdfastd: it must end first",
                 name);
    find_end(recovery, file->first_seq, &unfinished);
    int twin = result == 0 ? is_sealed_twin(recovery, file->first_seq, held) : 0;
    if (twin > 0)
        end_at(&unfinished, file->first_seq);
    if (result == 0)
        result = twin < 0 && twin != -EIO ? twin : unfinished_finish(&unfinished, &outcome);
    fd_close(&held);
    if (result < 0 && !live_with(recovery, name, result, outcome.unreadable))
        return result;
    if (outcome.has_records)
        recovery_numbers_raise(&recovery->numbers, outcome.last_seq + 1);
    else if (result < 0)
        recovery_numbers_pass_unread(&recovery->numbers, file->file);
    recovery->answer->files += result == 0 && outcome.has_records;
    /* Its records are in what it became, or will be. */
    file->bounds = result == 0 ? outcome.has_records : !outcome.unreadable && !file->bare;
    file->begins_at = outcome.has_records ? outcome.first_seq : file->first_seq;
    return 0;
}

static int finish_all(struct recovery *recovery)
{
    int result = 0;
    recovery->files = calloc(recovery->list.count + 1, sizeof *recovery->files);
    if (!recovery->files)
        return -ENOMEM;
    for (size_t i = 0; i < recovery->list.count; i++) {
        const struct folder_file *file = &recovery->list.files[i];
        if (avro_log_name_ends_in(file->name, AVRO_LOG_OPEN_SUFFIX) &&
            !recovery_numbers_is_kept(recovery->request, file))
            recovery->files[recovery->count++] =
                (struct open_file){.file = file,
                                   .bare = contents_have_no_record(recovery->folder, file->name),
                                   .first_seq = contents_first_seq(recovery->folder, file)};
    }
    find_last_seqs(recovery);
    qsort(recovery->files, recovery->count, sizeof *recovery->files, newest_first);
    for (size_t i = 0; i < recovery->count && result == 0; i++)
        result = finish_open_file(recovery, &recovery->files[i]);
    free(recovery->files);
    return result;
}

/* A header without records, whose number another file tells: retention would take it for the newest
 * one, and numbers would be given twice when those that have them are gone. */
static int remove_bare(struct recovery *recovery)
{
    const char *channel = recovery->request->channel;
    for (size_t i = 0; i < recovery->list.count; i++) {
        const struct folder_file *file = &recovery->list.files[i];
        if (file->first_seq != UINT64_MAX && avro_log_name_ends_in(file->name, AVRO_LOG_SUFFIX) &&
            contents_are_bare(recovery->folder, file->name) == 1 &&
            segment_header_is_remembered(recovery->folder, channel, file->first_seq, file->id))
            unfinished_discard(recovery->folder, channel, file->name,
                               "no record in it, and its number is told by another file");
    }
    return 0;
}

static int list_again(struct recovery *recovery)
{
    folder_list_free(&recovery->list);
    return folder_list(recovery->folder, recovery->request->channel, &recovery->list);
}

static int recover(struct recovery *recovery)
{
    int (*const steps[])(struct recovery *) = {resume_mending, drop_first_names, copy_refused,
                                               finish_all, remove_bare};
    int result = 0;
    for (size_t i = 0; result == 0 && i < sizeof steps / sizeof *steps; i++) {
        result = list_again(recovery);
        if (result == 0)
            result = steps[i](recovery);
    }
    if (result == 0)
        result = list_again(recovery);
    if (result == 0)
        result = recovery_numbers_find(&recovery->numbers);
    folder_list_free(&recovery->list);
    return result;
}

void recovery_run(const char *log_dir, const struct message_recover *request,
                  struct message_recovered *ret)
{
    struct recovery recovery = {.request = request, .answer = ret};
    int lock = -1;
    memset(ret, 0, sizeof *ret);
    snprintf(ret->channel, sizeof ret->channel, "%s", request->channel);
    int folder = folder_open(log_dir, request->channel, false);
    if (folder == -ENOENT)
        return; /* no folder yet: an empty log */
    recovery.folder = folder;
    recovery.numbers =
        (struct recovery_numbers){.folder = folder, .request = request, .list = &recovery.list};
    int result = folder < 0 ? folder : folder_lock(folder, LOCK_PATIENCE_NS, &lock);
    if (result == 0)
        result = recover(&recovery);
    fd_close(&lock);
    fd_close(&folder);
    ret->next_seq = recovery.numbers.next_seq;
    if (result == 0)
        return;
    ret->error = -result;
    if (!ret->reason[0])
        folder_explain(log_dir, request->channel, -result, ret->reason);
}
