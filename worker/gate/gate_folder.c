/* SPDX-License-Identifier: MIT */
/* Opens and lists channels' folders, called by the gate's threads only; the main loop merely makes
 * and forgets them. Must never lead outside log_dir, nor take what was listed for what is there. */
#include "worker/gate/gate_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/monotonic.h"

/* Two changes within so much of each other may leave the same time on a folder: the coarsest file
 * systems count in 2 s. */
#define TIMES_DIFFER_AFTER_NS (2 * NS_PER_S)
/* Files in all the listings that are kept; what is beyond is read each time. */
#define KEPT_MOST (256 * 1024)

static _Atomic size_t kept_files;

struct gate_folder *gate_folder_new(const char *log_dir, const char *channel)
{
    struct gate_folder *folder = calloc(1, sizeof *folder);
    if (!folder)
        return NULL;
    folder->references = 1;
    folder->log_dir = log_dir;
    snprintf(folder->channel, sizeof folder->channel, "%s", channel);
    pthread_mutex_init(&folder->lock, NULL);
    return folder;
}

struct gate_folder *gate_folder_keep(struct gate_folder *folder)
{
    folder->references++;
    return folder;
}

static void forget_kept(struct gate_folder *folder)
{
    if (folder->kept)
        atomic_fetch_sub(&kept_files, folder->kept->log.count);
    gate_listing_release(&folder->kept);
}

void gate_folder_release(struct gate_folder **folder)
{
    struct gate_folder *it = *folder;
    *folder = NULL;
    if (!it || --it->references > 0)
        return;
    forget_kept(it);
    pthread_mutex_destroy(&it->lock);
    free(it);
}

/* ---- in the threads ---- */

static int open_inner(int folder, const char *name)
{
    const struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    int fd = (int)syscall(SYS_openat2, folder, name, &how, sizeof how);
    return fd < 0 ? -errno : fd;
}

int gate_folder_open_below(const char *log_dir, const char *name, const char *inner)
{
    /* Each time anew: it may be made, moved or mounted over at any time. */
    int outer = open(log_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (outer < 0)
        return -errno;
    int fd = open_inner(outer, name);
    fd_close(&outer);
    if (fd < 0 || !inner)
        return fd;
    int below = open_inner(fd, inner);
    fd_close(&fd);
    return below;
}

int gate_folder_open(const struct gate_folder *folder)
{
    return gate_folder_open_below(folder->log_dir, folder->channel, NULL);
}

static bool is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_unchanged(const struct stat *before, const struct stat *now)
{
    return before->st_dev == now->st_dev && before->st_ino == now->st_ino &&
           is_same_time(before->st_mtim, now->st_mtim) &&
           is_same_time(before->st_ctim, now->st_ctim);
}

/* Would a change from now on leave another time than the last one did? */
static bool is_settled(const struct stat *status)
{
    uint64_t now = realtime_now_ns();
    return timespec_ns(&status->st_mtim) + TIMES_DIFFER_AFTER_NS <= now &&
           timespec_ns(&status->st_ctim) + TIMES_DIFFER_AFTER_NS <= now;
}

static struct gate_listing *find_kept(struct gate_folder *folder, const struct stat *now)
{
    struct gate_listing *listing = NULL;
    pthread_mutex_lock(&folder->lock);
    if (folder->kept && folder->settled && is_unchanged(&folder->seen, now)) {
        listing = folder->kept;
        atomic_fetch_add(&listing->references, 1);
    }
    pthread_mutex_unlock(&folder->lock);
    return listing;
}

static void keep(struct gate_folder *folder, struct gate_listing *listing, const struct stat *seen,
                 bool settled)
{
    pthread_mutex_lock(&folder->lock);
    forget_kept(folder);
    if (settled &&
        atomic_fetch_add(&kept_files, listing->log.count) + listing->log.count > KEPT_MOST) {
        atomic_fetch_sub(&kept_files, listing->log.count);
        settled = false;
    }
    if (settled) {
        atomic_fetch_add(&listing->references, 1);
        folder->kept = listing;
        folder->seen = *seen;
        folder->settled = true;
    }
    pthread_mutex_unlock(&folder->lock);
}

int gate_folder_list(struct gate_folder *folder, int fd, bool anew, struct gate_listing **ret)
{
    struct stat now;
    *ret = NULL;
    if (fstat(fd, &now) < 0)
        return -errno;
    if (!anew)
        *ret = find_kept(folder, &now);
    if (*ret)
        return 0;
    bool settled = is_settled(&now); /* before it is read: what changes meanwhile must show */
    struct gate_listing *listing = calloc(1, sizeof *listing);
    if (!listing)
        return -ENOMEM;
    atomic_init(&listing->references, 1);
    int result = log_folder_read(fd, folder->channel, &listing->log);
    if (result < 0) {
        gate_listing_release(&listing);
        return result;
    }
    keep(folder, listing, &now, settled);
    *ret = listing;
    return 0;
}

void gate_listing_release(struct gate_listing **listing)
{
    struct gate_listing *it = *listing;
    *listing = NULL;
    if (!it || atomic_fetch_sub(&it->references, 1) > 1)
        return;
    log_folder_free(&it->log);
    free(it);
}
