/* SPDX-License-Identifier: MIT */
/* Finds log files for readers, in threads of the pool. Files are sealed, mended and removed
 * meanwhile: what vanished between two looks is looked for again. Must never hand out anything but
 * a log file of the channel, sealed or being written. */
#include "worker/gate/gate_find.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/fd.h"
#include "common/log_folder.h"

#define TRIES 8 /* at a folder that changes all the time */

void gate_find_seal_name(char name[SEGMENT_NAME_SIZE])
{
    if (avro_log_name_ends_in(name, AVRO_LOG_OPEN_SUFFIX))
        name[strlen(name) - strlen(AVRO_LOG_OPEN_SUFFIX) + strlen(AVRO_LOG_SUFFIX)] = '\0';
}

/* count when there is none. */
static size_t pick(int folder, const struct log_folder *log, const struct read_find *wanted)
{
    size_t at;
    if (log->count == 0)
        return 0;
    switch (wanted->by) {
    case READ_BY_SEQ:
        return log_folder_find_seq(log, wanted->seq);
    case READ_BY_TIME:
        at = log_folder_find_time(folder, log, wanted->time_ns > 0 ? (uint64_t)wanted->time_ns : 0);
        return at < log->count ? at : log->count - 1;
    case READ_FIRST:
        return 0;
    case READ_LAST:
        return log->count - 1;
    case READ_AFTER:
        at = log_folder_find_seq(log, wanted->seq);
        return log->files[at].first_seq > wanted->seq ? at : at + 1;
    default:
        return log->count;
    }
}

/* 0, or -ENOENT: it is gone meanwhile; or another -errno. */
static int open_picked(int folder, const struct log_folder *log, size_t at, struct read_found *ret,
                       uint64_t *ret_size, int *ret_fd)
{
    const struct log_folder_file *file = &log->files[at];
    struct stat status;
    int fd = log_folder_open(folder, file->name);
    if (fd < 0)
        return fd;
    if (fstat(fd, &status) < 0) {
        int result = -errno;
        fd_close(&fd);
        return result;
    }
    *ret = (struct read_found){.id = status.st_ino,
                               .first_seq = file->first_seq,
                               .next_first_seq =
                                   at + 1 < log->count ? log->files[at + 1].first_seq : UINT64_MAX,
                               .oldest_seq = log->files[0].first_seq,
                               .is_open = file->open};
    snprintf(ret->name, sizeof ret->name, "%s", file->name);
    *ret_size = (uint64_t)status.st_size;
    *ret_fd = fd;
    return 0;
}

int gate_find_segment(struct gate_folder *folder, const struct read_find *wanted,
                      struct read_found *ret, uint64_t *ret_size, int *ret_fd)
{
    int result = -ENOENT;
    *ret_fd = -1;
    int dir = gate_folder_open(folder);
    if (dir < 0)
        return dir;
    for (int i = 0; i < TRIES; i++) {
        struct gate_listing *listing;
        result = gate_folder_list(folder, dir, i > 0, &listing);
        if (result < 0)
            break;
        size_t at = pick(dir, &listing->log, wanted);
        bool is_there = at < listing->log.count;
        result = is_there ? open_picked(dir, &listing->log, at, ret, ret_size, ret_fd) : -ENOENT;
        gate_listing_release(&listing);
        if (result != -ENOENT || !is_there)
            break;
        result = -EAGAIN; /* it was there */
    }
    fd_close(&dir);
    return result;
}

/* ---- lists ---- */

/* Is this file behind the one with that name, in the order of log_folder.h? A name says the same
 * before and after it is sealed. */
static bool is_behind(const struct log_folder_file *file, const char *channel,
                      const struct avro_log_name *after)
{
    struct avro_log_name own;
    if (file->first_seq != after->first_seq)
        return file->first_seq > after->first_seq;
    if (!avro_log_name_parse(file->name, channel, &own))
        return false;
    int order = memcmp(own.utc, after->utc, AVRO_LOG_UTC_LENGTH);
    return order != 0 ? order > 0 : own.number > after->number;
}

void gate_find_describe(int fd, struct read_segment_entry *ret)
{
    struct avro_log_identity identity;
    struct stat status;
    const char *what;
    if (fstat(fd, &status) == 0)
        ret->size = (uint64_t)status.st_size;
    if (avro_log_load_header(fd, &identity, &what) > 0) {
        ret->created_ns = (int64_t)identity.created_ns;
        ret->has_totals = identity.has_totals;
        ret->last_seq = identity.has_totals ? identity.totals.last_seq : 0;
        ret->records = identity.has_totals ? identity.totals.records : 0;
        ret->first_time_ns = identity.has_totals ? (int64_t)identity.totals.first_time_ns : 0;
        ret->last_time_ns = identity.has_totals ? (int64_t)identity.totals.last_time_ns : 0;
    }
}

/* By its name, or what it was sealed as meanwhile; -ENOENT: it is gone. */
static int open_entry(int folder, struct read_segment_entry *entry)
{
    int fd = log_folder_open(folder, entry->name);
    if (fd == -ENOENT && entry->is_open) {
        gate_find_seal_name(entry->name);
        entry->is_open = 0;
        fd = log_folder_open(folder, entry->name);
    }
    return fd;
}

static int describe(int folder, const struct log_folder_file *file, struct read_segment_entry *ret)
{
    *ret = (struct read_segment_entry){.first_seq = file->first_seq, .is_open = file->open};
    snprintf(ret->name, sizeof ret->name, "%s", file->name);
    int fd = open_entry(folder, ret);
    if (fd < 0)
        return fd;
    gate_find_describe(fd, ret);
    fd_close(&fd);
    return 0;
}

static int describe_page(int dir, struct gate_folder *folder, const struct avro_log_name *after,
                         struct read_segment_entry ret[READ_LIST_MAX])
{
    struct gate_listing *listing;
    int count = 0;
    int result = gate_folder_list(folder, dir, false, &listing);
    if (result < 0)
        return result;
    size_t at = after ? log_folder_find_seq(&listing->log, after->first_seq) : 0;
    /* Several may begin at one number. */
    while (after && at > 0 && listing->log.files[at - 1].first_seq >= after->first_seq)
        at--;
    for (; at < listing->log.count && count < READ_LIST_MAX; at++) {
        const struct log_folder_file *file = &listing->log.files[at];
        if (after && !is_behind(file, folder->channel, after))
            continue;
        if (describe(dir, file, &ret[count]) != -ENOENT)
            count++;
    }
    gate_listing_release(&listing);
    return count;
}

int gate_find_page(struct gate_folder *folder, const char *after,
                   struct read_segment_entry ret[READ_LIST_MAX])
{
    struct avro_log_name parts;
    if (after[0] && (!avro_log_name_is_of(after, folder->channel) ||
                     !avro_log_name_parse(after, folder->channel, &parts)))
        return -EINVAL;
    int dir = gate_folder_open(folder);
    if (dir < 0)
        return dir == -ENOENT ? 0 : dir;
    int result = describe_page(dir, folder, after[0] ? &parts : NULL, ret);
    fd_close(&dir);
    return result;
}

/* Behind the last record, as far as the newest file tells. */
static uint64_t end_of(int dir, const struct log_folder_file *newest)
{
    struct read_segment_entry entry;
    if (describe(dir, newest, &entry) == 0 && entry.has_totals && entry.records > 0 &&
        entry.last_seq >= newest->first_seq && entry.last_seq < UINT64_MAX)
        return entry.last_seq + 1;
    return newest->first_seq;
}

bool gate_find_ends(struct gate_folder *folder, uint64_t live_end, uint64_t *ret_first,
                    uint64_t *ret_end)
{
    struct gate_listing *listing = NULL;
    *ret_first = *ret_end = 0;
    int dir = gate_folder_open(folder);
    if (dir < 0)
        return false;
    bool any = gate_folder_list(folder, dir, false, &listing) == 0 && listing->log.count > 0;
    if (any) {
        const struct log_folder_file *newest = &listing->log.files[listing->log.count - 1];
        *ret_first = listing->log.files[0].first_seq;
        *ret_end = live_end > newest->first_seq ? live_end : end_of(dir, newest);
    }
    gate_listing_release(&listing);
    fd_close(&dir);
    return any;
}

/* ---- objects ---- */

/* It has yet to get that name, and may be sealed in all but that: the main loop decides. */
static int open_unnamed(int folder, struct read_segment_entry *entry)
{
    static const char more[] = ".open";
    const size_t length = strlen(entry->name);
    if (entry->is_open || length + sizeof more > sizeof entry->name)
        return -ENOENT;
    memcpy(entry->name + length, more, sizeof more);
    entry->is_open = 1;
    return log_folder_open(folder, entry->name);
}

static int open_by_name(struct gate_folder *folder, const char *name,
                        struct read_segment_entry *ret)
{
    struct avro_log_name parts;
    if (!avro_log_name_is_of(name, folder->channel) ||
        !avro_log_name_parse(name, folder->channel, &parts))
        return -EINVAL;
    *ret = (struct read_segment_entry){
        .first_seq = parts.first_seq, .is_open = avro_log_name_ends_in(name, AVRO_LOG_OPEN_SUFFIX)};
    if (!ret->is_open && !avro_log_name_ends_in(name, AVRO_LOG_SUFFIX))
        return -EINVAL;
    snprintf(ret->name, sizeof ret->name, "%s", name);
    int dir = gate_folder_open(folder);
    if (dir < 0)
        return dir;
    int fd = open_entry(dir, ret);
    if (fd == -ENOENT)
        fd = open_unnamed(dir, ret);
    fd_close(&dir);
    return fd;
}

static int open_found(struct gate_folder *folder, const struct read_object *wanted,
                      struct read_segment_entry *ret)
{
    const struct read_find find = {
        .by = wanted->by, .seq = wanted->seq, .time_ns = wanted->time_ns};
    struct read_found found;
    uint64_t size;
    int fd;
    int result = gate_find_segment(folder, &find, &found, &size, &fd);
    if (result < 0)
        return result;
    *ret = (struct read_segment_entry){.first_seq = found.first_seq, .is_open = found.is_open};
    memcpy(ret->name, found.name, sizeof ret->name);
    return fd;
}

/* It was found by a number or a time: has it that? */
static bool has_what_was_meant(const struct read_object *wanted,
                               const struct read_segment_entry *found)
{
    const bool is_known = found->has_totals && found->records > 0;
    if (wanted->by == READ_BY_SEQ)
        return wanted->seq >= found->first_seq && !(is_known && wanted->seq > found->last_seq);
    if (wanted->by == READ_BY_TIME)
        return !(is_known && found->last_time_ns < wanted->time_ns);
    return true;
}

int gate_find_object(struct gate_folder *folder, const struct read_object *wanted,
                     struct read_object_lent *ret, int *ret_fd)
{
    struct stat status;
    *ret = (struct read_object_lent){0};
    *ret_fd = wanted->by == READ_BY_NAME ? open_by_name(folder, wanted->name, &ret->about)
                                         : open_found(folder, wanted, &ret->about);
    if (*ret_fd < 0)
        return *ret_fd;
    gate_find_describe(*ret_fd, &ret->about);
    ret->id = fstat(*ret_fd, &status) == 0 ? status.st_ino : 0;
    if (has_what_was_meant(wanted, &ret->about))
        return 0;
    fd_close(ret_fd);
    return -ENOENT;
}

bool gate_find_is_gone(int folder, const char *name, uint64_t id)
{
    char sealed[SEGMENT_NAME_SIZE];
    struct stat status;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return status.st_ino != id;
    if (errno != ENOENT)
        return false;
    snprintf(sealed, sizeof sealed, "%s", name);
    gate_find_seal_name(sealed);
    if (fstatat(folder, sealed, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return status.st_ino != id;
    return errno == ENOENT;
}
