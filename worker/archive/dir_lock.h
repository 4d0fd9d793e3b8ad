/* SPDX-License-Identifier: MIT */
/* One daemon at a time works in a log_dir, and works in the one that it began with. The lock is
 * flock(2) on <log_dir>/.lock, which also says whose it is. It belongs to the open file
 * description: the supervisor has a copy, so that it outlives one archive, and an archive that
 * outlives its supervisor still keeps the next daemon away. */
#ifndef HOLDFAST_WORKER_ARCHIVE_DIR_LOCK_H
#define HOLDFAST_WORKER_ARCHIVE_DIR_LOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/message.h"
#include "common/monotonic.h"

#define DIR_LOCK_NAME ".lock"

struct dir_lock {
    const char *log_dir;
    int fd; /* -1 until it was taken */
    dev_t device;
    ino_t inode;
    /* Which mount it is in; and the one that shows at the path when that is unmounted, 0 when it
     * has none of its own. */
    uint64_t mount, outer_mount;
    bool unlocked; /* the file system knows no locks: nobody is kept away */
    bool patient;  /* a predecessor may be about to end: worth waiting for, once */
    int error;     /* how the last look ended: 0 or an errno */
    char reason[MESSAGE_REASON_SIZE];
};

/* fd: what an archive before this one has left to the supervisor, or -1; the lock has it from now
 * on. */
void dir_lock_init(struct dir_lock *lock, const char *log_dir, int fd, uint64_t outer_mount);

/* Before anything is touched: is the lock held, and does the path still lead there? Takes it first
 * if it can; makes log_dir if `create` is set, but never below a mount point whose file system is
 * gone. 0; -ENOENT when there is no log_dir and none is to be made; else -errno with lock->reason,
 * which says what to do. *ret_changed: the answer is another one than before, or another lock is
 * held. */
int dir_lock_hold(struct dir_lock *lock, bool create, bool *ret_changed);

/* Let go of it; who was forked meanwhile keeps it. */
void dir_lock_release(struct dir_lock *lock);

#endif
