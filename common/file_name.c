/* SPDX-License-Identifier: MIT */
/* rename(2) that replaces nothing, also where the file system knows no RENAME_NOREPLACE (NFS, some
 * FUSE). Called by the archive and by holdfastctl. Must never overwrite a file: a second link fails
 * where the name is taken, just as the flag does. Only where there are no links either is looked
 * first; in log_dir its lock then keeps other archives away. */
#include "common/file_name.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_same_file(int folder, const char *from, const char *to)
{
    struct stat left, right;
    return fstatat(folder, from, &left, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(folder, to, &right, AT_SYMLINK_NOFOLLOW) == 0 && left.st_dev == right.st_dev &&
           left.st_ino == right.st_ino && left.st_nlink > 1; /* and not one name in two spellings */
}

static int drop(int folder, const char *name)
{
    return unlinkat(folder, name, 0) < 0 ? -errno : 0;
}

static int look_and_rename(int folder, const char *from, const char *to)
{
    struct stat status;
    if (fstatat(folder, to, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return -EEXIST;
    if (errno != ENOENT)
        return -errno;
    return renameat(folder, from, folder, to) < 0 ? -errno : 0;
}

static bool is_not_known(int error)
{
    return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP;
}

static int link_and_drop(int folder, const char *from, const char *to)
{
    if (linkat(folder, from, folder, to, 0) == 0)
        return drop(folder, from);
    if (errno == EPERM || errno == EMLINK || is_not_known(errno))
        return look_and_rename(folder, from, to);
    return -errno;
}

int file_name_change(int folder, const char *from, const char *to)
{
    if (strcmp(from, to) == 0)
        return 0;
    int result = renameat2(folder, from, folder, to, RENAME_NOREPLACE) < 0 ? -errno : 0;
    if (is_not_known(-result))
        result = link_and_drop(folder, from, to);
    /* Also a server that was asked twice, because its first answer was lost. */
    if (result == -EEXIST && is_same_file(folder, from, to))
        result = drop(folder, from);
    return result;
}
