/* SPDX-License-Identifier: MIT */
/* Lends memory files to processes that must not write to them. Called for rings and for answers.
 * Must never hand out a descriptor that shares anything but the memory. */
#include "supervisor/hold/hold_lend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/fd.h"

#define LENT_MODE 0400

/* A memory file has mode 0777 when it is made, by whatever version: whoever is lent it read only
 * could open it again through /proc and write. Whoever has a descriptor to write by keeps it. */
int hold_lend_protect(int memory)
{
    return fchmod(memory, LENT_MODE) < 0 ? -errno : 0;
}

int hold_lend_read_only(int memory)
{
    char itself[32];
    struct stat about;
    int error = hold_lend_protect(memory);
    if (error < 0)
        return error;
    snprintf(itself, sizeof itself, "/proc/self/fd/%d", memory);
    int fd = open(itself, O_RDONLY | O_CLOEXEC); /* a duplicate could write */
    if (fd >= 0 && (fstat(fd, &about) < 0 || (about.st_mode & 07777) != LENT_MODE)) {
        fd_close(&fd);
        errno = EPERM;
    }
    return fd < 0 ? -errno : fd;
}
