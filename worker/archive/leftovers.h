/* SPDX-License-Identifier: MIT */
/* What lies behind the place where a later segment begins. */
#ifndef HOLDFAST_WORKER_ARCHIVE_LEFTOVERS_H
#define HOLDFAST_WORKER_ARCHIVE_LEFTOVERS_H

#include <stdint.h>

/* A worker that died while it went over to a new segment has left records behind the old one's end
 * that the new one has too. Is that so of all sound records of `fd` from seq_end on: is each of
 * them, but for its flags, in a segment that begins there or later? 1: yes, or there are none. 0:
 * cutting them off would lose some. Or -errno. */
int leftovers_are_elsewhere(int folder, const char *channel, int fd, uint64_t seq_end);

#endif
