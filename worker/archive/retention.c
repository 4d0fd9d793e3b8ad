/* SPDX-License-Identifier: MIT */
/* Removes the oldest sealed segments when a channel's limits say so. Called by archive.c for
 * EXPIRE. Must never remove an open segment, nor anything whose name it doesn't know; every removal
 * is logged. */
#include "worker/archive/retention.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "worker/archive/folder.h"

/* The channels whose oldest segments may go when the file system is short of space: those that said
 * EXPIRE with keep_free. A cache only: a new archive learns it from the next round of EXPIRE. */
static struct {
    char (*names)[CHANNEL_NAME_SIZE];
    size_t count;
    bool exhausted; /* said already that nothing is left to remove */
} keep_free;

static bool is_sealed(const char *name)
{
    return avro_log_name_ends_in(name, AVRO_LOG_SUFFIX) ||
           avro_log_name_ends_in(name, AVRO_LOG_DAMAGED_SUFFIX);
}

static bool remove_file(int folder, const char *channel, const struct folder_file *file,
                        const char *why)
{
    char size[32];
    if (unlinkat(folder, file->name, 0) < 0) {
        if (errno != ENOENT)
            log_warning("%s: %s should go (%s) but can't be removed: %s", channel, file->name, why,
                        strerror(errno));
        return false;
    }
    units_human_bytes(file->size, size, sizeof size);
    log_info("%s: removed %s, %s: %s", channel, file->name, size, why);
    return true;
}

/* Marks removed files by an empty name. */
static void apply_channel_limits(int folder, const struct message_expire *limits,
                                 struct folder_list *list)
{
    char why[64], limit[32];
    uint64_t total = 0, now_s = realtime_now_ns() / NS_PER_S;
    for (size_t i = 0; i < list->count; i++)
        if (is_sealed(list->files[i].name))
            total += list->files[i].size;
    for (size_t i = 0; i < list->count; i++) {
        struct folder_file *file = &list->files[i];
        if (!is_sealed(file->name))
            continue;
        if (limits->keep_at_most && total > limits->keep_at_most) {
            units_print_size(limits->keep_at_most, limit, sizeof limit);
            snprintf(why, sizeof why, "more than keep_at_most = %s", limit);
        } else if (limits->keep_for_ns && file->modified_s >= 0 &&
                   (uint64_t)file->modified_s < now_s &&
                   now_s - (uint64_t)file->modified_s > limits->keep_for_ns / NS_PER_S) {
            units_print_duration(limits->keep_for_ns, limit, sizeof limit);
            snprintf(why, sizeof why, "older than keep_for = %s", limit);
        } else {
            continue;
        }
        uint64_t size = file->size;
        if (remove_file(folder, limits->channel, file, why))
            total -= size;
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

struct candidate {
    const char *channel;
    struct folder_file file;
};

/* By the time in its name, which every candidate has. */
static int oldest_first(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    struct avro_log_name of_left = {.utc = ""}, of_right = {.utc = ""};
    avro_log_name_parse(left->file.name, left->channel, &of_left);
    avro_log_name_parse(right->file.name, right->channel, &of_right);
    return strncmp(of_left.utc, of_right.utc, AVRO_LOG_UTC_LENGTH);
}

static size_t add_candidates(const char *log_dir, const char *channel,
                             struct candidate **candidates, size_t count)
{
    struct folder_list list;
    struct avro_log_name parts;
    int folder = folder_open(log_dir, channel, false);
    if (folder < 0)
        return count;
    if (folder_list(folder, channel, &list) == 0 && list.count > 0) {
        struct candidate *more = realloc(*candidates, (count + list.count) * sizeof *more);
        *candidates = more ? more : *candidates;
        for (size_t i = 0; more && i < list.count; i++)
            if (is_sealed(list.files[i].name) &&
                avro_log_name_parse(list.files[i].name, channel, &parts))
                more[count++] = (struct candidate){channel, list.files[i]};
    }
    folder_list_free(&list);
    fd_close(&folder);
    return count;
}

/* Space comes back late where somebody still has a removed file, so what has been removed counts as
 * free: looking at the file system again after each removal would remove everything. */
static uint64_t remove_oldest(const char *log_dir, uint64_t needed, const char *why)
{
    struct candidate *candidates = NULL;
    size_t count = 0;
    uint64_t freed = 0;
    for (size_t i = 0; i < keep_free.count; i++)
        count = add_candidates(log_dir, keep_free.names[i], &candidates, count);
    if (count > 0)
        qsort(candidates, count, sizeof *candidates, oldest_first);
    for (size_t i = 0; i < count && freed < needed; i++) {
        int folder = folder_open(log_dir, candidates[i].channel, false);
        if (folder >= 0 && remove_file(folder, candidates[i].channel, &candidates[i].file, why))
            freed += candidates[i].file.disk_size;
        fd_close(&folder);
    }
    free(candidates);
    return freed;
}

static void apply_keep_free(const char *log_dir, const struct message_expire *limits)
{
    struct statvfs space;
    char percent[32], why[96];
    if (statvfs(log_dir, &space) < 0 || space.f_blocks == 0)
        return;
    uint64_t blocks_wanted =
        (uint64_t)((unsigned __int128)space.f_blocks * limits->keep_free_ppm / 1000000);
    if (space.f_bavail >= blocks_wanted) {
        keep_free.exhausted = false;
        return;
    }
    units_print_percent(limits->keep_free_ppm, percent, sizeof percent);
    snprintf(why, sizeof why, "less than keep_free = %s of the file system is free", percent);
    uint64_t needed = (blocks_wanted - space.f_bavail) * space.f_frsize;
    uint64_t freed = remove_oldest(log_dir, needed, why);
    if (freed < needed && !keep_free.exhausted)
        log_warning("%s: %s, and no sealed segment is left to remove; free some space", log_dir,
                    why);
    keep_free.exhausted = freed < needed;
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
