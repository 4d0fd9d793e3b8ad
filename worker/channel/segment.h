/* SPDX-License-Identifier: MIT */
/* A segment file as a worker has it: mapped, shared by recorder and syncer, gone when the last of
 * them lets go. */
#ifndef HOLDFAST_WORKER_CHANNEL_SEGMENT_H
#define HOLDFAST_WORKER_CHANNEL_SEGMENT_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/message.h"

/* How pages are brought in and written. In large pages, ahead, is cheapest per byte; but one call
 * clears megabytes, and keeps the processor that long. */
enum segment_preference { SEGMENT_UNDECIDED, SEGMENT_SHORT_CALLS, SEGMENT_CHEAP };

struct segment {
    _Atomic uint32_t references;
    struct segment_grant grant;
    int fd;
    uint8_t *map; /* grant.size bytes, preallocated on disk */
    /* Bytes from the start that are in this process's page tables. */
    _Atomic uint64_t populated;
    /* The syncer's: bytes from the start that are not in the page tables any more, and bytes that
     * are on their way to the disk. */
    uint64_t let_go, written_back;
    enum segment_preference preference; /* the syncer's */
    struct segment *behind; /* the syncer's chain of those that the recorder has left, and ... */
    uint64_t left_at;       /* ... where it did: bytes that were committed */
    _Atomic int32_t error;  /* not 0: the segment is not to be written any more, because ... */
    const char *error_what; /* ... of this; written before error */
    char name[SEGMENT_NAME_SIZE]; /* the recorder's, until it has left it */
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

/* From the recorder, which has begun it or goes on in it: the name that it bears by then or will
 * soon, instead of the one under which it was prepared. */
struct commit_progress;
void segment_name(struct segment *segment, const char *channel, const struct commit_progress *work);

void segment_prefer(struct segment *segment, enum segment_preference preference);

/* Bring the pages from `offset` to `offset + ahead` into the page tables, ready to be written
 * without a fault, as far as they are not there yet. May wait for a disk. */
void segment_populate(struct segment *segment, uint64_t offset, uint64_t ahead);

/* Forget the pages well before `offset` (the file keeps them): a process that dies with few pages
 * dies faster, and its successor is there sooner. */
void segment_let_go(struct segment *segment, uint64_t offset);

/* Have what lies well before `offset` written, without waiting for that, so that neither
 * segment_sync() nor the kernel finds much to do at once: either would keep the processor that
 * long. */
void segment_write_back(struct segment *segment, uint64_t offset);

/* Make everything durable; up to `offset` there is something. 0 or -errno. May wait for a disk. */
int segment_sync(struct segment *segment, uint64_t offset);

/* The same for everything in its file system: for what nobody has a descriptor of any more. */
int segment_sync_all(struct segment *segment);

#endif
