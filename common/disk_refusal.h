/* SPDX-License-Identifier: MIT */
/* That the disk has refused part of a file. The kernel says so once, takes the pages for written
 * from then on, and says to everybody who asks later that all is well; so whoever is told notes it
 * at the file itself: its sticky bit, which means nothing on a file otherwise, takes no space, and
 * outlives every process that knew of it. Such a file is copied, and never sealed as it is. */
#ifndef HOLDFAST_COMMON_DISK_REFUSAL_H
#define HOLDFAST_COMMON_DISK_REFUSAL_H

#include <stdbool.h>
#include <sys/types.h>

bool disk_refusal_in_mode(mode_t mode);
bool disk_refusal_is_noted(int fd);

/* What can't be noted is not: on a file system that doesn't keep the bit, or writes no more. */
void disk_refusal_note(int fd);

/* sync: fsync(2) or fdatasync(2). 0; -errno, which is noted; or -EIO where it was before. */
int disk_refusal_sync(int fd, int (*sync)(int fd));

#endif
