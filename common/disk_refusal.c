/* SPDX-License-Identifier: MIT */
/* Notes at a log file that the disk has refused part of it. Called by the worker's syncer and the
 * archive, right after the kernel has said so: it does not say it again. The note need not be on
 * the disk itself: what ends the memory that it is in, ends the pages that it is about. */
#include "common/disk_refusal.h"

#include <errno.h>
#include <sys/stat.h>

#define MARK       S_ISVTX
#define PERMISSION 07777

bool disk_refusal_in_mode(mode_t mode)
{
    return S_ISREG(mode) && (mode & MARK);
}

bool disk_refusal_is_noted(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && disk_refusal_in_mode(status.st_mode);
}

void disk_refusal_note(int fd)
{
    struct stat status;
    if (fstat(fd, &status) == 0 && !disk_refusal_in_mode(status.st_mode))
        fchmod(fd, (status.st_mode & PERMISSION) | MARK);
}

int disk_refusal_sync(int fd, int (*sync)(int fd))
{
    if (disk_refusal_is_noted(fd))
        return -EIO;
    if (sync(fd) == 0)
        return 0;
    int error = errno;
    disk_refusal_note(fd);
    return -error;
}
