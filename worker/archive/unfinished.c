/* SPDX-License-Identifier: MIT */
/* Makes a sealed file of one that was being written. Called by recovery.c for what a crash has
 * left, by segments.c for a SEAL whose length nobody knows or the file doesn't confirm. Every sound
 * record is kept: in the sealed file, or in the original, which then stays beside it. A crash at
 * any point leaves files that the next recovery finishes. Must never be asked about a file that
 * somebody may write to. */
#include "worker/archive/unfinished.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_copy.h"
#include "common/avro_log_end.h"
#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "common/disk_refusal.h"
#include "common/fd.h"
#include "common/log.h"
#include "worker/archive/contents.h"
#include "worker/archive/folder.h"
#include "worker/archive/leftovers.h"
#include "worker/archive/segment_header.h"

static const struct avro_log_scan_options unlimited = {.open = true, .seq_end = UINT64_MAX};

int unfinished_discard(int folder, const char *channel, const char *name, const char *why)
{
    if (unlinkat(folder, name, 0) < 0)
        return -errno;
    log_info("channel %s: removed %s: %s", channel, name, why);
    return 0;
}

int unfinished_set_aside(int folder, const char *channel, const char *name, const char *what)
{
    char damaged[SEGMENT_NAME_SIZE];
    int result = folder_rename(folder, name, name, AVRO_LOG_DAMAGED_SUFFIX, damaged);
    if (result == 0)
        log_warning(
            "channel %s: %s is of no use as it is (%s); kept as %s, see holdfastctl recover",
            channel, name, what, damaged);
    return result;
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
 * these writes reach the disk, a scan finds the same records again. Nothing is cut off before the
 * disk has taken them. */
static int write_end(int folder, int fd, const struct avro_log_summary *summary, uint64_t *ret_size)
{
    uint8_t header[AVRO_LOG_BLOCK_HEADER_SIZE];
    const struct avro_log_block *block = &summary->last_block;
    uint64_t end = avro_log_block_end(block);

    avro_log_write_block_header(header, block->count, block->size);
    int result = fd_write_all(fd, summary->identity.sync, AVRO_LOG_SYNC_SIZE, end);
    if (result == 0)
        result = fd_write_all(fd, header, sizeof header, block->offset);
    if (result == 0)
        result = segment_header_finish(folder, summary->identity.channel, fd, summary);
    *ret_size = end + AVRO_LOG_SYNC_SIZE;
    if (result == 0)
        result = disk_refusal_sync(fd, fsync);
    if (result == 0 && ftruncate(fd, (off_t)*ret_size) < 0)
        result = -errno;
    return result < 0 ? result : disk_refusal_sync(fd, fsync);
}

static int rename_sealed(const struct unfinished *file, const struct avro_log_summary *summary,
                         struct unfinished_outcome *ret)
{
    char open_name[SEGMENT_NAME_SIZE];
    proper_open_name(file->channel, file->name, &summary->identity, open_name);
    int result = folder_rename(file->folder, file->name, open_name, AVRO_LOG_SUFFIX, ret->name);
    if (result == 0)
        log_notice("channel %s: recovered %s: %llu records, up to number %llu", file->channel,
                   ret->name, (unsigned long long)summary->records,
                   (unsigned long long)summary->last_seq);
    return result;
}

/* What the file is called, or was, whose sound records are being copied to this one. */
void unfinished_original_name(const char *mending, char ret_name[UNFINISHED_ORIGINAL_SIZE])
{
    snprintf(ret_name, UNFINISHED_ORIGINAL_SIZE, "%.*s" AVRO_LOG_OPEN_SUFFIX,
             (int)(strlen(mending) - strlen(AVRO_LOG_MENDING_SUFFIX)), mending);
}

int unfinished_name_of_copy(int folder, const char *channel, const char *mending,
                            char ret_open_name[SEGMENT_NAME_SIZE])
{
    char original[UNFINISHED_ORIGINAL_SIZE];
    struct avro_log_identity identity;
    long size = contents_load_header(folder, mending, &identity);
    if (size < 0)
        return (int)size;
    unfinished_original_name(mending, original);
    if (strlen(original) >= SEGMENT_NAME_SIZE)
        return -ENAMETOOLONG;
    proper_open_name(channel, original, &identity, ret_open_name);
    return 0;
}

/* Give a complete copy of sound records its name. */
int unfinished_finish_mending(int folder, const char *channel, const char *mending,
                              char ret_name[SEGMENT_NAME_SIZE])
{
    char open_name[SEGMENT_NAME_SIZE];
    int result = unfinished_name_of_copy(folder, channel, mending, open_name);
    return result < 0 ? result : folder_rename_copy(folder, mending, open_name, ret_name);
}

/* What a file has that its sound records up to seq_end are not all of. */
struct more {
    bool elsewhere; /* records from seq_end on, which no other file has */
    bool lost;      /* at its end: records that are not sound any more */
};

/* What became of it. An original that has nothing more than its copy need not be kept. */
static void conclude(const struct unfinished *file, struct more more,
                     const struct avro_log_summary *summary, const char *became,
                     const char *damaged)
{
    if (summary->faults > 0)
        log_warning(
            "channel %s: %s is damaged (%llu faults, the first at byte %llu: %s); its %llu sound "
            "records are in %s, the original is kept as %s",
            file->channel, file->name, (unsigned long long)summary->faults,
            (unsigned long long)summary->fault_offset, summary->fault_what,
            (unsigned long long)summary->records, became, damaged);
    else if (more.elsewhere)
        log_warning(
            "channel %s: %s has records from number %llu on, where another file begins that does "
            "not have them; the %llu before it are in %s, the original is kept as %s",
            file->channel, file->name, (unsigned long long)file->options.seq_end,
            (unsigned long long)summary->records, became, damaged);
    else if (more.lost || !file->copy)
        log_warning(
            "channel %s: %s is damaged at its end: more was written there than what is sound; its "
            "%llu sound records are in %s, the original is kept as %s",
            file->channel, file->name, (unsigned long long)summary->records, became, damaged);
    else if (unlinkat(file->folder, damaged, 0) == 0)
        log_notice(
            "channel %s: the disk had refused a part of %s: all its %llu records were copied to %s",
            file->channel, file->name, (unsigned long long)summary->records, became);
}

/* Copy all sound records into a new file, which is complete and synced in the end, or not there. */
static int copy_sound(const struct unfinished *file, int fd, const char *mending,
                      struct avro_log_summary *ret_summary, struct unfinished_outcome *ret)
{
    struct avro_log_copy copy = {.options = file->options, .channel = file->channel, .from_fd = fd};
    const int folder = file->folder;
    uint8_t log_id[AVRO_LOG_ID_SIZE];
    struct stat status = {0};

    /* What another attempt left goes as a name only: it may be another file's, too. */
    if (unlinkat(folder, mending, 0) < 0 && errno != ENOENT)
        return -errno;
    copy.to_fd = openat(folder, mending, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (copy.to_fd < 0)
        return -errno;
    if (segment_header_log_id(folder, file->channel, log_id) == 1)
        copy.log_id = log_id;
    copy.latest_before_ns = segment_header_latest_before(folder, file->channel, ret->first_seq);
    int result = avro_log_copy(&copy, ret_summary);
    if (result == 0 && (fsync(copy.to_fd) < 0 || fstat(copy.to_fd, &status) < 0))
        result = -errno;
    fd_close(&copy.to_fd);
    if (result == 0 && fsync(folder) < 0)
        result = -errno;
    if (result < 0)
        unlinkat(folder, mending, 0);
    ret->length = (uint64_t)status.st_size;
    return result;
}

static bool has_its_name(const struct unfinished *file, int fd)
{
    struct stat own, named;
    return fstat(fd, &own) == 0 &&
           fstatat(file->folder, file->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           own.st_ino == named.st_ino;
}

/* Copy all sound records into a new file; the original is kept beside it where it has more. The
 * copy is complete before the original loses its name, so a .mending without its original is as
 * good as done (mending.c); and there is none where the original keeps its name. */
static int mend(const struct unfinished *file, int fd, struct more more,
                struct unfinished_outcome *ret)
{
    struct avro_log_summary summary = {0};
    const char *channel = file->channel, *name = file->name;
    const int folder = file->folder;
    char stem[SEGMENT_NAME_SIZE], mending[SEGMENT_NAME_SIZE], damaged[SEGMENT_NAME_SIZE],
        open_name[SEGMENT_NAME_SIZE];

    bool sealed = avro_log_name_ends_in(name, AVRO_LOG_SUFFIX);
    folder_open_name(name, sealed ? AVRO_LOG_SUFFIX : AVRO_LOG_OPEN_SUFFIX, stem);
    folder_number_name(stem, AVRO_LOG_MENDING_SUFFIX, 1, mending);
    int result = copy_sound(file, fd, mending, &summary, ret);
    if (result < 0)
        return result;
    result = unfinished_name_of_copy(folder, channel, mending, open_name);
    if (result == 0)
        result = folder_rename(folder, name, open_name, AVRO_LOG_DAMAGED_SUFFIX, damaged);
    if (result < 0 && has_its_name(file, fd))
        unlinkat(folder, mending, 0);
    if (result == 0)
        result = folder_rename_copy(folder, mending, open_name, ret->name);
    if (result == 0)
        conclude(file, more, &summary, ret->name, damaged);
    return result;
}

static int could_not_read(struct unfinished_outcome *ret, int error)
{
    ret->unreadable = error == -EIO;
    return error;
}

int unfinished_copy_sealed(const struct unfinished *file, struct unfinished_outcome *ret)
{
    const struct avro_log_scan_options sealed = {.seq_end = UINT64_MAX};
    struct unfinished whole = *file;
    struct avro_log_summary summary;
    memset(ret, 0, sizeof *ret);
    if (strlen(file->name) + sizeof AVRO_LOG_OPEN_SUFFIX > SEGMENT_NAME_SIZE)
        return -ENAMETOOLONG;
    int fd = openat(file->folder, file->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    whole.options = sealed;
    int result = avro_log_scan(fd, &sealed, NULL, &summary);
    ret->first_seq = summary.has_header ? summary.identity.first_seq : summary.first_seq;
    snprintf(ret->name, sizeof ret->name, "%s", file->name);
    if (result < 0)
        result = could_not_read(ret, result);
    else if (summary.records > 0)
        result = mend(&whole, fd, (struct more){0}, ret);
    fd_close(&fd);
    return result;
}

int unfinished_finish_empty(const struct unfinished *file, int fd, const char *why,
                            struct unfinished_outcome *ret)
{
    struct avro_log_identity identity;
    char open_name[SEGMENT_NAME_SIZE];
    struct stat status;
    const char *what;
    long header_size = avro_log_load_header(fd, &identity, &what);
    memset(ret, 0, sizeof *ret);
    if (header_size <= 0 || fstat(fd, &status) < 0 ||
        segment_header_is_remembered(file->folder, file->channel, identity.first_seq,
                                     status.st_ino))
        return unfinished_discard(file->folder, file->channel, file->name, why);
    if (ftruncate(fd, header_size) < 0 || fsync(fd) < 0)
        return -errno;
    ret->length = (uint64_t)header_size;
    proper_open_name(file->channel, file->name, &identity, open_name);
    int result = folder_rename(file->folder, file->name, open_name, AVRO_LOG_SUFFIX, ret->name);
    if (result == 0)
        log_notice("channel %s: %s has no record, and is kept because no other file says that "
                   "numbers below %llu were given",
                   file->channel, ret->name, (unsigned long long)identity.first_seq);
    return result;
}

/* Nothing of it came to the disk but, maybe, the name that it was begun with. */
static int finish_blank(const struct unfinished *file, int fd, struct unfinished_outcome *ret)
{
    struct avro_log_name parts;
    struct stat status;
    if (!avro_log_name_is_of(file->name, file->channel) ||
        !avro_log_name_parse(file->name, file->channel, &parts))
        return unfinished_discard(file->folder, file->channel, file->name,
                                  "it was prepared and never begun");
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!segment_header_is_remembered(file->folder, file->channel, parts.first_seq,
                                      status.st_ino)) {
        struct avro_log_identity identity = {.first_seq = parts.first_seq};
        snprintf(identity.channel, sizeof identity.channel, "%s", file->channel);
        int result = segment_header_new_identity(file->folder, &identity);
        if (result == 0)
            result = segment_header_begin(fd, &identity);
        if (result < 0)
            return result;
    }
    return unfinished_finish_empty(file, fd, "nothing of it has reached the disk", ret);
}

/* A worker died before it recorded anything in it; or what it holds is no record of ours. */
static int finish_without_records(const struct unfinished *file, int fd,
                                  const struct avro_log_summary *summary,
                                  struct unfinished_outcome *ret)
{
    struct avro_log_summary all;
    if (!summary->has_header) {
        int blank = avro_log_is_blank(fd);
        if (blank < 0)
            return could_not_read(ret, blank);
        return blank ? finish_blank(file, fd, ret)
                     : unfinished_set_aside(file->folder, file->channel, file->name,
                                            summary->fault_what);
    }
    int result = avro_log_scan(fd, &unlimited, NULL, &all);
    if (result < 0)
        return could_not_read(ret, result);
    if (all.records_after_fault > 0)
        return unfinished_set_aside(file->folder, file->channel, file->name, all.fault_what);
    int lost = avro_log_lacks_end(fd, &file->options, &all);
    if (lost < 0)
        return could_not_read(ret, lost);
    if (all.records == 0 &&
        (lost || file->options.size_end > all.header_size + AVRO_LOG_BLOCK_HEADER_SIZE))
        return unfinished_set_aside(file->folder, file->channel, file->name,
                                    "none of the records that were written is sound");
    if (all.records > 0)
        return unfinished_discard(file->folder, file->channel, file->name,
                                  "all its records are in another one");
    return unfinished_finish_empty(file, fd, "no record in it", ret);
}

/* Nobody knows how much of what lies behind size_end is meant to be there; what lies behind the
 * place where another file begins must be in that one, or behind it. */
static int may_end(const struct unfinished *file, int fd)
{
    return file->options.seq_end == UINT64_MAX
               ? 1
               : leftovers_are_elsewhere(file->folder, file->channel, fd, file->options.seq_end);
}

/* After a power cut, the header may be the one with which the segment was begun in vain while the
 * one before went on. Where what should follow it is lost, the first record says more. */
static uint64_t begins_at(const struct avro_log_summary *summary)
{
    const uint64_t said = summary->identity.first_seq, first = summary->first_seq;
    const bool is_proven = summary->records_after_fault < summary->records;
    return summary->has_header && (is_proven || said >= first) ? said : first;
}

static int finish_scanned(const struct unfinished *file, int fd, struct unfinished_outcome *ret)
{
    struct avro_log_summary summary;
    int result = avro_log_scan(fd, &file->options, NULL, &summary);
    int complete = result < 0 ? result : may_end(file, fd);
    if (complete < 0)
        return could_not_read(ret, complete);
    if (summary.records == 0 && !complete)
        return unfinished_set_aside(
            file->folder, file->channel, file->name,
            "another file is said to have its numbers, and does not have its records");
    if (summary.records == 0)
        return finish_without_records(file, fd, &summary, ret);
    ret->has_records = true;
    ret->first_seq = begins_at(&summary);
    ret->last_seq = summary.last_seq;
    int lost = avro_log_lacks_end(fd, &file->options, &summary);
    if (lost < 0)
        return could_not_read(ret, lost);
    if (summary.records_after_fault > 0 || !summary.has_header || !complete || lost || file->copy)
        return mend(file, fd, (struct more){.elsewhere = !complete, .lost = lost}, ret);
    /* Its folder's, for its name. */
    snprintf(summary.identity.channel, sizeof summary.identity.channel, "%s", file->channel);
    result = write_end(file->folder, fd, &summary, &ret->length);
    return result < 0 ? result : rename_sealed(file, &summary, ret);
}

/* Whoever ordered a copy is forgotten when it can't be made now, as is what the disk says here: the
 * file tells the next one. */
int unfinished_finish(const struct unfinished *file, struct unfinished_outcome *ret)
{
    struct unfinished copied = *file;
    memset(ret, 0, sizeof *ret);
    int result, fd = openat(file->folder, file->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    if (file->copy)
        disk_refusal_note(fd);
    do {
        copied.copy = file->copy || disk_refusal_is_noted(fd);
        result = finish_scanned(&copied, fd, ret);
    } while (result < 0 && !copied.copy && disk_refusal_is_noted(fd));
    fd_close(&fd);
    return result;
}

/* A segment bears its number once it is committed to; one that was finished without records does,
 * too. 1, 0 or -errno. */
static int bounds_another(int folder, const struct folder_file *file)
{
    if (!folder_file_is_segment(file))
        return 0;
    if (!avro_log_name_ends_in(file->name, AVRO_LOG_SUFFIX))
        return 1;
    int bare = contents_are_bare(folder, file->name);
    return bare == -ENOENT ? 0 : bare < 0 ? bare : !bare;
}

/* Where the file after the one that begins at first_seq begins. 0 or -errno. */
static int find_seq_end(struct unfinished *file, const struct folder_list *list, uint64_t first_seq)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->files[i].first_seq <= first_seq ||
            list->files[i].first_seq >= file->options.seq_end)
            continue;
        int result = bounds_another(file->folder, &list->files[i]);
        if (result < 0)
            return result;
        if (result > 0)
            file->options.seq_end = list->files[i].first_seq;
    }
    return 0;
}

int unfinished_finish_alone(struct unfinished *file, struct unfinished_outcome *ret)
{
    struct folder_list list;
    uint64_t first_seq = UINT64_MAX;
    int result = folder_list(file->folder, file->channel, &list);
    for (size_t i = 0; result == 0 && i < list.count; i++)
        if (strcmp(list.files[i].name, file->name) == 0)
            first_seq = contents_first_seq(file->folder, &list.files[i]);
    if (result == 0)
        result = find_seq_end(file, &list, first_seq);
    folder_list_free(&list);
    return result < 0 ? result : unfinished_finish(file, ret);
}
