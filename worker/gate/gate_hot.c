/* SPDX-License-Identifier: MIT */
/* A small table by name. Called by the main loop: so a file is opened here only where both its name
 * and what is in it are known, its file system is of this machine, and the kernel has every part of
 * the path in memory (RESOLVE_CACHED). Must never lend another file than the one that was
 * described: a name, an inode and a size are compared each time. */
#include "worker/gate/gate_hot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "worker/gate/gate_pool.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

static struct gate_hot_entry *entry_of(struct gate *gate, const char *channel, const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *at = channel; *at; at++)
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    for (const char *at = name; *at; at++)
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    return &gate->hot[hash % GATE_HOT];
}

void gate_hot_note(struct gate *gate, const char *channel, const struct gate_hot_object *object)
{
    struct gate_hot_entry *entry = entry_of(gate, channel, object->lent.about.name);
    if (!object->local)
        return;
    gate->counts[GATE_COUNTER_hot_files] += entry->channel[0] ? 0 : 1;
    snprintf(entry->channel, sizeof entry->channel, "%s", channel);
    entry->device = object->device;
    entry->lent = object->lent;
}

bool gate_hot_is_local(int fd)
{
    struct statfs about;
    if (fstatfs(fd, &about) < 0)
        return false;
    switch ((uint32_t)about.f_type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
        return true;
    default:
        return false;
    }
}

/* In one call, which looks less closely than log_folder_open(): is_still() does. */
static int open_file(const struct gate_channel *channel, const char *name)
{
    const struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                                 .resolve = RESOLVE_CACHED};
    char path[PATH_MAX];
    int length =
        snprintf(path, sizeof path, "%s/%s/%s", channel->folder->log_dir, channel->name, name);
    return length < (int)sizeof path ? (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how)
                                     : -1;
}

/* Was it this file that a thread has found in the channel's folder? Whatever links there may be. */
static bool is_still(int fd, const struct gate_hot_entry *entry)
{
    struct statx now;
    return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO | STATX_SIZE,
                 &now) == 0 &&
           S_ISREG(now.stx_mode) && now.stx_ino == entry->lent.id &&
           now.stx_size == entry->lent.about.size &&
           makedev(now.stx_dev_major, now.stx_dev_minor) == entry->device;
}

int gate_hot_open(struct gate *gate, const struct gate_channel *channel, const char *name,
                  struct gate_hot_object *ret, int *ret_fd)
{
    struct gate_hot_entry *entry = entry_of(gate, channel->name, name);
    *ret_fd = -1;
    if (strcmp(entry->lent.about.name, name) != 0 || strcmp(entry->channel, channel->name) != 0)
        return -EAGAIN;
    int fd = open_file(channel, name);
    if (fd < 0 || !is_still(fd, entry)) {
        if (fd >= 0)
            gate_pool_close_fd(&gate->pool, &fd);
        entry->channel[0] = '\0';
        gate->counts[GATE_COUNTER_hot_files]--;
        return -EAGAIN;
    }
    *ret = (struct gate_hot_object){.local = true, .device = entry->device, .lent = entry->lent};
    *ret_fd = fd;
    return 0;
}
