/* SPDX-License-Identifier: MIT */
/* The lock on log_dir. Called by archive.c before every piece of work, and now and then while there
 * is none: a look costs one stat(2). Must never let two archives work in one folder, nor take the
 * empty folder below a mount point for the log. */
#include "worker/archive/dir_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "worker/archive/file_lock.h"

/* The archive of a daemon that was killed notices and leaves within this time. */
#define PREDECESSOR_PATIENCE_NS (2 * NS_PER_S)

#define MODE                    (S_IRUSR | S_IWUSR)
#define HOLDER_SIZE             96 /* what a lock file says: "holdfastd PID archive PID\n" */

struct place {
    dev_t device;
    ino_t inode;
    uint64_t mount; /* not used again as long as somebody has a file there open */
};

/* Where a descriptor ("") or a path (AT_FDCWD) leads. 0 or -errno. Two mounts of one file system
 * are apart, unless the kernel is older than 5.8. */
static int find_place(int fd, const char *path, struct place *ret)
{
    struct statx status;
    if (statx(fd, path, AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_INO | STATX_MNT_ID, &status) < 0)
        return -errno;
    ret->device = makedev(status.stx_dev_major, status.stx_dev_minor);
    ret->inode = status.stx_ino;
    ret->mount = status.stx_mask & STATX_MNT_ID ? status.stx_mnt_id : ret->device;
    return 0;
}

static void hold_at(struct dir_lock *lock, int fd, const struct place *place)
{
    fd_close(&lock->fd);
    lock->fd = fd;
    lock->device = place->device;
    lock->inode = place->inode;
    lock->mount = place->mount;
}

void dir_lock_init(struct dir_lock *lock, const char *log_dir, int fd, uint64_t outer_mount)
{
    struct place place = {0};
    *lock = (struct dir_lock){.log_dir = log_dir, .fd = -1, .patient = true};
    if (fd < 0)
        return;
    if (find_place(fd, "", &place) < 0) { /* then it must be taken again */
        fd_close(&fd);
        return;
    }
    hold_at(lock, fd, &place);
    lock->outer_mount = outer_mount;
}

/* ---- where the path leads ---- */

/* The mount of the nearest folder that exists on the way to log_dir. 0 or -errno. */
static int nearest_mount(const char *log_dir, uint64_t *ret_mount)
{
    char path[PATH_MAX];
    struct place place = {0};
    int result;
    snprintf(path, sizeof path, "%s", log_dir);
    while ((result = find_place(AT_FDCWD, path, &place)) < 0) {
        char above[PATH_MAX];
        if (result != -ENOENT && result != -ENOTDIR)
            return result;
        snprintf(above, sizeof above, "%s", path);
        const char *parent = dirname(above);
        if (strcmp(parent, path) == 0)
            return -ENOENT;
        snprintf(path, sizeof path, "%s", parent);
    }
    *ret_mount = place.mount;
    return 0;
}

/* What log_dir's mount is mounted on; 0 when that is the root's. */
static uint64_t find_outer_mount(const char *log_dir, uint64_t mount)
{
    char path[PATH_MAX];
    struct place place = {0};
    if (!realpath(log_dir, path))
        return 0;
    while (strcmp(path, "/") != 0) {
        char above[PATH_MAX];
        snprintf(above, sizeof above, "%s", path);
        snprintf(path, sizeof path, "%s", dirname(above));
        if (find_place(AT_FDCWD, path, &place) < 0)
            return 0;
        if (place.mount != mount)
            return place.mount;
    }
    return 0;
}

/* A log_dir that was removed or moved is made anew; one that went with its file system is not. */
static bool is_unmounted(const struct dir_lock *lock)
{
    uint64_t mount = 0;
    return lock->fd >= 0 && lock->outer_mount != 0 && lock->outer_mount != lock->mount &&
           nearest_mount(lock->log_dir, &mount) == 0 && mount == lock->outer_mount;
}

static int make_folder(const struct dir_lock *lock)
{
    return mkdir(lock->log_dir, 0750) < 0 && errno != EEXIST ? -errno : 0;
}

/* 1: the path still leads to the lock that is held; 0: not; or -errno. */
static int leads_there(const struct dir_lock *lock)
{
    char path[PATH_MAX];
    struct stat status;
    if (lock->fd < 0)
        return 0;
    snprintf(path, sizeof path, "%s/" DIR_LOCK_NAME, lock->log_dir);
    if (lstat(path, &status) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    return status.st_dev == lock->device && status.st_ino == lock->inode;
}

/* ---- taking it ---- */

static void write_holder(int fd)
{
    char text[HOLDER_SIZE];
    int length =
        snprintf(text, sizeof text, "holdfastd %d archive %d\n", (int)getppid(), (int)getpid());
    /* On a full disk it doesn't say whose it is, but is held all the same. */
    if (fd_write_all(fd, text, (size_t)length, 0) == 0 && ftruncate(fd, length) < 0)
        log_debug("the lock file can't be cut to its length: %s", strerror(errno));
}

static void explain_holder(struct dir_lock *lock, int fd)
{
    char text[HOLDER_SIZE] = "";
    int supervisor = 0, archive = 0;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "holdfastd %d archive %d", &supervisor, &archive) != 2)
        snprintf(lock->reason, sizeof lock->reason,
                 "%.60s: another holdfastd uses it; stop that one, or choose another log_dir",
                 lock->log_dir);
    else if (kill(supervisor, 0) < 0 && errno == ESRCH && kill(archive, 0) == 0)
        snprintf(lock->reason, sizeof lock->reason,
                 "%.40s: the archive (pid %d) of a holdfastd that has ended (pid %d) is still at "
                 "work; wait until it ends, or end it",
                 lock->log_dir, archive, supervisor);
    else
        snprintf(lock->reason, sizeof lock->reason,
                 "%.60s: another holdfastd (pid %d) uses it; stop that one, or choose another "
                 "log_dir",
                 lock->log_dir, supervisor);
}

/* 0; -EBUSY when somebody else has it; without locks in the file system everybody gets it. */
static int lock_file(struct dir_lock *lock, int fd)
{
    int result = file_lock_wait(fd, lock->patient ? PREDECESSOR_PATIENCE_NS : 0);
    if (result == 0 || result == -EBUSY)
        return result;
    lock->unlocked = true;
    log_warning("%s can't be locked: %s; nothing keeps a second holdfastd away from it",
                lock->log_dir, strerror(-result));
    return 0;
}

static int open_lock_file(const struct dir_lock *lock)
{
    int folder = open(lock->log_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -errno;
    /* Only for its owner: whoever may open a file can lock it. */
    int fd =
        openat(folder, DIR_LOCK_NAME, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, MODE);
    if (fd < 0)
        fd = -errno;
    else
        fchmod(fd, MODE); /* an older version's; somebody else's stays as it is */
    fd_close(&folder);
    return fd;
}

static int take(struct dir_lock *lock)
{
    struct place place = {0};
    int fd = open_lock_file(lock);
    if (fd < 0)
        return fd;
    int result = lock_file(lock, fd);
    lock->patient = false;
    if (result == -EBUSY)
        explain_holder(lock, fd);
    else
        result = find_place(fd, "", &place);
    if (result < 0) {
        fd_close(&fd);
        return result;
    }
    write_holder(fd);
    hold_at(lock, fd, &place);
    lock->outer_mount = find_outer_mount(lock->log_dir, place.mount);
    return 0;
}

static int hold(struct dir_lock *lock, bool create, bool *ret_taken)
{
    int result = leads_there(lock);
    if (result != 0)
        return result < 0 ? result : 0;
    if (is_unmounted(lock)) {
        snprintf(lock->reason, sizeof lock->reason,
                 "%.60s: its file system is not mounted any more; mount it again, or restart "
                 "holdfastd to do without it",
                 lock->log_dir);
        return -ENODEV;
    }
    result = create ? make_folder(lock) : 0;
    if (result == 0)
        result = take(lock);
    *ret_taken = result == 0;
    return result;
}

int dir_lock_hold(struct dir_lock *lock, bool create, bool *ret_changed)
{
    char before[MESSAGE_REASON_SIZE];
    bool taken = false;
    memcpy(before, lock->reason, sizeof before);
    lock->reason[0] = '\0';
    int result = hold(lock, create, &taken);
    if (result == -ENOENT && !create) { /* nothing to work with, and no trouble */
        memcpy(lock->reason, before, sizeof before);
        *ret_changed = false;
        return result;
    }
    *ret_changed = taken || lock->error != -result || strcmp(before, lock->reason) != 0;
    lock->error = -result;
    return result;
}

void dir_lock_release(struct dir_lock *lock)
{
    fd_close(&lock->fd);
    lock->reason[0] = '\0';
    lock->error = 0;
}
