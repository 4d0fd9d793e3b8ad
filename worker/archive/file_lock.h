/* SPDX-License-Identifier: MIT */
/* Locks on files that another process of ours, who is about to end, may still have. */
#ifndef HOLDFAST_WORKER_ARCHIVE_FILE_LOCK_H
#define HOLDFAST_WORKER_ARCHIVE_FILE_LOCK_H

#include <stdint.h>

/* flock(2) for us alone, for a file that only we can open. Wait at most so long for that (0: not at
 * all). 0; -EBUSY when somebody else has it; or another -errno where the file system has no locks,
 * so that nobody is seen. */
int file_lock_wait(int fd, uint64_t patience_ns);

/* For a segment, which others may open and read: a lock that only those can have who may write to
 * it, and that readers' locks don't touch (F_OFD_SETLK(2)). Whoever is handed the descriptor has
 * it, until the last one has closed it. 0 or -errno. */
int file_lock_mark_writer(int fd);
/* Wait until nobody has it any more; and nobody gets it as long as this descriptor is open. Returns
 * like file_lock_wait(). */
int file_lock_await_writers(int fd, uint64_t patience_ns);

#endif
