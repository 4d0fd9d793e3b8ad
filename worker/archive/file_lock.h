/* SPDX-License-Identifier: MIT */
/* flock(2) on a file or folder that somebody who is about to end may still have. */
#ifndef HOLDFAST_WORKER_ARCHIVE_FILE_LOCK_H
#define HOLDFAST_WORKER_ARCHIVE_FILE_LOCK_H

#include <stdint.h>

/* Lock it for us alone, and wait at most so long for that (0: not at all). 0; -EBUSY when somebody
 * else has it; or another -errno where the file system has no locks, so that nobody is seen. */
int file_lock_wait(int fd, uint64_t patience_ns);

#endif
