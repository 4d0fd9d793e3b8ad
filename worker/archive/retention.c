/* SPDX-License-Identifier: MIT */
/* Removes the oldest sealed segments when a channel's limits say so. Called by archive.c for
 * EXPIRE. Age is a matter of sequence numbers: clocks may have been wrong when a segment was named,
 * and may be wrong now. Must never remove an open segment, nor anything whose name it doesn't know,
 * nor go on removing while that makes no room; every removal is logged. */
#include "worker/archive/retention.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/memory_page.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "worker/archive/contents.h"
#include "worker/archive/folder.h"

/* So often, 50 ms apart, the file system is asked whether a removal made room. */
#define ROOM_LOOKS 10
/* So many removals in a row that made none are a reason to stop; one may have been read by
 * somebody, or not have been seen beside what others write. Then it is tried again after a while.
 */
#define VAIN_REMOVALS 3
#define STUCK_FOR_NS  (600 * NS_PER_S)

/* The channels whose oldest segments may go when the file system is short of space: those that said
 * EXPIRE with keep_free. A cache only: a new archive learns it from the next round of EXPIRE. */
static struct {
    char (*names)[CHANNEL_NAME_SIZE];
    size_t count;
    bool exhausted; /* said already that nothing is left to remove */
    /* Removing made no room: not again before f_bavail is above this. UINT64_MAX = it does. */
    uint64_t stuck_at;
    monotonic stuck_since;
} keep_free = {.stuck_at = UINT64_MAX};

static bool is_sealed(const struct folder_file *file)
{
    return file->first_seq != UINT64_MAX &&
           (avro_log_name_ends_in(file->name, AVRO_LOG_SUFFIX) ||
            avro_log_name_ends_in(file->name, AVRO_LOG_DAMAGED_SUFFIX));
}

/* The newest file with a number, which says which were given, and the newest one of those that say
 * it by more than that: one without any record may have been left behind by the one before. Both
 * are list->count when there is none. */
struct newest {
    size_t numbered, telling;
};

static struct newest find_newest(int folder, const struct folder_list *list)
{
    struct newest newest = {list->count, list->count};
    for (size_t i = list->count; i-- > 0 && newest.telling == list->count;) {
        const struct folder_file *file = &list->files[i];
        if (file->first_seq == UINT64_MAX)
            continue;
        if (newest.numbered == list->count)
            newest.numbered = i;
        if (!avro_log_name_ends_in(file->name, AVRO_LOG_SUFFIX) ||
            contents_are_bare(folder, file->name) == 0)
            newest.telling = i;
    }
    return newest;
}

/* The newest ones stay, whatever the limits. */
static bool may_go(const struct folder_list *list, const struct newest *newest, size_t index)
{
    return index < newest->numbered && index != newest->telling && is_sealed(&list->files[index]);
}

/* Only by its last name: what somebody has made his own is left as it is. Somebody may still read
 * it, as slowly as he likes: what he reads from now on are zeros, which no check word vouches for.
 * Where the file system can't do that, the space is given back when he has closed it. */
static void give_back_space(int fd)
{
    struct stat about;
    if (fd < 0 || fstat(fd, &about) < 0 || !S_ISREG(about.st_mode) || about.st_nlink > 0)
        return;
    /* A part of a page is only filled with zeros. */
    off_t size = (off_t)memory_page_ceil((uint64_t)about.st_size + (uint64_t)about.st_blksize);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size) < 0)
        log_debug("the space of a removed file can't be given back before all have closed it: %s",
                  strerror(errno));
}

static bool remove_file(int folder, const char *channel, const struct folder_file *file,
                        const char *why)
{
    char size[32];
    int fd = openat(folder, file->name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int error = unlinkat(folder, file->name, 0) < 0 ? errno : 0;
    if (error == 0)
        give_back_space(fd);
    fd_close(&fd);
    if (error) {
        if (error != ENOENT)
            log_warning("channel %s: %s should go (%s) but can't be removed: %s", channel,
                        file->name, why, strerror(error));
        return false;
    }
    units_human_bytes(file->size, size, sizeof size);
    log_info("channel %s: removed %s, %s: %s", channel, file->name, size, why);
    return true;
}

/* Against the clock and against the newest file of the channel alike: after a step of the clock
 * everything would be too old, or nothing ever. */
static uint64_t reference_s(const struct folder_list *list)
{
    uint64_t now_s = realtime_now_ns() / NS_PER_S, newest_s = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->files[i].first_seq != UINT64_MAX && list->files[i].modified_s > 0)
            newest_s = (uint64_t)list->files[i].modified_s; /* the last one is the newest */
    return newest_s < now_s ? newest_s : now_s;
}

static void apply_channel_limits(int folder, const struct message_expire *limits,
                                 const struct folder_list *list)
{
    char why[64], limit[32];
    uint64_t total = 0, reference = reference_s(list);
    const struct newest newest = find_newest(folder, list);
    for (size_t i = 0; i < list->count; i++)
        if (is_sealed(&list->files[i]))
            total += list->files[i].size;
    for (size_t i = 0; i < list->count; i++) {
        const struct folder_file *file = &list->files[i];
        if (!may_go(list, &newest, i))
            continue;
        if (limits->keep_at_most && total > limits->keep_at_most) {
            units_print_size(limits->keep_at_most, limit, sizeof limit);
            snprintf(why, sizeof why, "more than keep_at_most = %s", limit);
        } else if (limits->keep_for_ns && file->modified_s >= 0 &&
                   (uint64_t)file->modified_s < reference &&
                   reference - (uint64_t)file->modified_s > limits->keep_for_ns / NS_PER_S) {
            units_print_duration(limits->keep_for_ns, limit, sizeof limit);
            snprintf(why, sizeof why, "older than keep_for = %s", limit);
        } else {
            continue;
        }
        if (remove_file(folder, limits->channel, file, why))
            total -= file->size;
    }
}

/* ---- keep_free ---- */

static void remember_channel(const char *channel, bool limited)
{
    size_t i = 0;
    while (i < keep_free.count && strcmp(keep_free.names[i], channel) != 0)
        i++;
    if (i < keep_free.count && !limited) {
        memmove(keep_free.names[i], keep_free.names[--keep_free.count], CHANNEL_NAME_SIZE);
    } else if (i == keep_free.count && limited) {
        char(*names)[CHANNEL_NAME_SIZE] = realloc(keep_free.names, (i + 1) * sizeof *names);
        if (!names)
            return; /* known again with the next EXPIRE */
        keep_free.names = names;
        snprintf(names[keep_free.count++], CHANNEL_NAME_SIZE, "%s", channel);
    }
}

/* age: the largest UTC in the names of the channel's files up to this one. It never goes back, so
 * that inside a channel the sequence numbers decide, whatever the clock was at. */
struct candidate {
    const char *channel;
    char age[AVRO_LOG_UTC_LENGTH];
    struct folder_file file;
};

static int oldest_first(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    int result = memcmp(left->age, right->age, sizeof left->age);
    if (result == 0)
        result = strcmp(left->channel, right->channel);
    if (result == 0)
        result = left->file.first_seq < right->file.first_seq   ? -1
                 : left->file.first_seq > right->file.first_seq ? 1
                                                                : 0;
    return result;
}

static size_t add_candidates(const char *log_dir, const char *channel,
                             struct candidate **candidates, size_t count)
{
    struct folder_list list;
    char age[AVRO_LOG_UTC_LENGTH] = {0};
    int folder = folder_open(log_dir, channel, false);
    if (folder < 0)
        return count;
    if (folder_list(folder, channel, &list) == 0 && list.count > 0) {
        struct candidate *more = realloc(*candidates, (count + list.count) * sizeof *more);
        const struct newest newest = find_newest(folder, &list);
        *candidates = more ? more : *candidates;
        for (size_t i = 0; more && i < list.count; i++) {
            if (!may_go(&list, &newest, i))
                continue;
            if (memcmp(list.files[i].utc, age, sizeof age) > 0)
                memcpy(age, list.files[i].utc, sizeof age);
            more[count] = (struct candidate){.channel = channel, .file = list.files[i]};
            memcpy(more[count++].age, age, sizeof age);
        }
    }
    folder_list_free(&list);
    fd_close(&folder);
    return count;
}

static bool look_at_space(const char *log_dir, struct statvfs *ret)
{
    return statvfs(log_dir, ret) == 0 && ret->f_blocks > 0;
}

/* Has this removal made room? File systems may take a moment. While somebody still has the file, it
 * does not. */
static bool made_room(const char *log_dir, const struct statvfs *before, uint64_t disk_size)
{
    const struct timespec pause = {.tv_nsec = (long)(50 * NS_PER_MS)};
    struct statvfs now;
    for (int i = 0; i < ROOM_LOOKS; i++) {
        if (!look_at_space(log_dir, &now))
            return false;
        if (now.f_bavail > before->f_bavail &&
            (now.f_bavail - before->f_bavail) * now.f_frsize >= disk_size / 2)
            return true;
        nanosleep(&pause, NULL);
    }
    return disk_size == 0;
}

static uint64_t blocks_wanted(const struct statvfs *space, const struct message_expire *limits)
{
    return (uint64_t)((unsigned __int128)space->f_blocks * limits->keep_free_ppm / 1000000);
}

static bool remove_candidate(const char *log_dir, const struct candidate *candidate,
                             const char *why)
{
    int folder = folder_open(log_dir, candidate->channel, false);
    bool removed = folder >= 0 && remove_file(folder, candidate->channel, &candidate->file, why);
    fd_close(&folder);
    return removed;
}

/* Remove the oldest until there is room. Ends when that makes none: going on would remove
 * everything for nothing. false when there is still too little. */
static bool remove_oldest(const char *log_dir, const struct message_expire *limits, const char *why)
{
    struct candidate *candidates = NULL;
    struct statvfs space;
    size_t count = 0;
    bool enough = false;
    int in_vain = 0;
    for (size_t i = 0; i < keep_free.count; i++)
        count = add_candidates(log_dir, keep_free.names[i], &candidates, count);
    if (count > 0)
        qsort(candidates, count, sizeof *candidates, oldest_first);
    for (size_t i = 0; i <= count; i++) {
        enough = !look_at_space(log_dir, &space) || space.f_bavail >= blocks_wanted(&space, limits);
        if (enough || i == count || !remove_candidate(log_dir, &candidates[i], why))
            break;
        /* One with several names makes no room, and loses nothing either. */
        bool vain = candidates[i].file.links < 2 &&
                    !made_room(log_dir, &space, candidates[i].file.disk_size);
        in_vain = vain ? in_vain + 1 : 0;
        if (in_vain == VAIN_REMOVALS) {
            keep_free.stuck_at = space.f_bavail + candidates[i].file.disk_size / 2 / space.f_frsize;
            keep_free.stuck_since = monotonic_now();
            log_warning("%s: %s, but removing %d files up to %s made no room: somebody still has "
                        "them open (`lsof +L1`). Nothing more is removed until there is more room, "
                        "or for %llu minutes",
                        log_dir, why, VAIN_REMOVALS, candidates[i].file.name,
                        STUCK_FOR_NS / NS_PER_S / 60);
            break;
        }
    }
    free(candidates);
    return enough;
}

static void apply_keep_free(const char *log_dir, const struct message_expire *limits)
{
    struct statvfs space;
    char percent[32], why[96];
    if (!look_at_space(log_dir, &space))
        return;
    if (space.f_bavail >= blocks_wanted(&space, limits)) {
        keep_free.exhausted = false;
        keep_free.stuck_at = UINT64_MAX;
        return;
    }
    if (keep_free.stuck_at != UINT64_MAX && space.f_bavail <= keep_free.stuck_at &&
        monotonic_since(monotonic_now(), keep_free.stuck_since) < STUCK_FOR_NS)
        return;
    keep_free.stuck_at = UINT64_MAX;
    units_print_percent(limits->keep_free_ppm, percent, sizeof percent);
    snprintf(why, sizeof why, "less than keep_free = %s of the file system is free", percent);
    bool enough = remove_oldest(log_dir, limits, why);
    bool exhausted = !enough && keep_free.stuck_at == UINT64_MAX;
    if (exhausted && !keep_free.exhausted)
        log_warning("%s: %s, and no sealed segment is left to remove; free some space", log_dir,
                    why);
    keep_free.exhausted = exhausted;
}

void retention_apply(const char *log_dir, const struct message_expire *limits)
{
    struct folder_list list;
    if (!channel_name_is_valid(limits->channel))
        return;
    remember_channel(limits->channel, limits->keep_free_ppm > 0);
    int folder = folder_open(log_dir, limits->channel, false);
    if (folder < 0)
        return; /* nothing recorded yet, or trouble that OPEN_SEGMENT tells about */
    if (folder_list(folder, limits->channel, &list) == 0)
        apply_channel_limits(folder, limits, &list);
    folder_list_free(&list);
    fd_close(&folder);
    if (limits->keep_free_ppm > 0)
        apply_keep_free(log_dir, limits);
}
