/* SPDX-License-Identifier: MIT */
/* A segment file as a worker has it: mapped, shared by recorder and syncer, gone when the last of
 * them lets go. */
#ifndef HOLDFAST_WORKER_CHANNEL_SEGMENT_H
#define HOLDFAST_WORKER_CHANNEL_SEGMENT_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/message.h"

/* More than the open block, to whose header the recorder goes back: pages before it are done. */
#define SEGMENT_OPEN_END (256 * 1024)

/* How pages are brought in and written. With the kernel's read-ahead it is cheapest per byte, but one
 * call clears as much memory as the device's read_ahead_kb says, and keeps the processor that long.
 */
enum segment_preference { SEGMENT_CHEAP, SEGMENT_SHORT_CALLS };

struct segment {
    _Atomic uint32_t references;
    struct segment_grant grant;
    int fd;
    uint8_t *map;               /* grant.size bytes, preallocated on disk */
    _Atomic uint64_t populated; /* bytes from the start that are in this process's page tables */
    uint64_t
        let_go; /* the syncer's: bytes from the start that are not in the page tables any more */
    enum segment_preference preference; /* the syncer's */
    uint64_t written_back;  /* the syncer's: bytes from the start that are on their way to the disk */
    _Atomic int32_t error;  /* not 0: the segment is not to be written any more, because ... */
    const char *error_what; /* ... of this; written before error */
};

/* Takes over *fd. NULL with *ret_error = errno. One reference is the caller's. */
struct segment *segment_open(int *fd, const struct segment_grant *grant, int *ret_error);
struct segment *segment_keep(struct segment *segment);
void segment_release(struct segment **segment);

/* From any thread: the recorder shall let go of it. */
void segment_fail(struct segment *segment, int error, const char *what);

/* Is the file still what it was? Somebody may have deleted it, or cut it short. Fails the segment
 * if so. */
void segment_look(struct segment *segment);

void segment_prefer(struct segment *segment, enum segment_preference preference);

/* Bring the pages from `offset` to `offset + ahead` into the page tables, ready to be written
 * without a fault, as far as they are not there yet. May wait for a disk. */
void segment_populate(struct segment *segment, uint64_t offset, uint64_t ahead);

/* Forget the pages well before `offset` (the file keeps them): a process that dies with few pages
 * dies faster, and its successor is there sooner. */
void segment_let_go(struct segment *segment, uint64_t offset);

/* Have what lies before `offset` written, without waiting for that, so that neither fdatasync nor
 * the kernel finds much to do at once: either would keep the processor that long. */
void segment_write_back(struct segment *segment, uint64_t offset);

#endif
