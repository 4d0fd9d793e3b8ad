/* SPDX-License-Identifier: MIT */
/* File descriptors with an owner: an fd variable is -1 or owned, and closing resets it. */
#ifndef HOLDFAST_COMMON_FD_H
#define HOLDFAST_COMMON_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What to do about EMFILE and ENFILE, behind the kernel's own words. */
#define FD_SHORTAGE_ADVICE "raise LimitNOFILE= or `ulimit -n`"

/* Close *fd if it is open and set it to -1. Keeps errno. */
void fd_close(int *fd);

/* fd_close() on each of count descriptors. */
void fd_close_all(int *fds, size_t count);

/* Take the descriptor out of *fd, leaving -1 behind: ownership moves to the caller. */
int fd_take(int *fd);

/* 0 or -errno. */
int fd_set_nonblocking(int fd);
int fd_set_cloexec(int fd);

/* Write all of it at this offset; the file offset stays (pwrite(2)). 0 or -errno; part of it may
 * have been written then. */
int fd_write_all(int fd, const void *bytes, size_t size, uint64_t offset);

/* Its file has been removed, or can't be looked at: the archive may give its space back, and zeros
 * be read from there. */
bool fd_is_removed(int fd);

#endif
