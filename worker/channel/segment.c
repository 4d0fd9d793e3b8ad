/* SPDX-License-Identifier: MIT */
/* Maps a segment file that the archive has preallocated. The map is never longer than the file was
 * at hand-over; if it shrinks later, the recorder's guard catches the SIGBUS. */
#include "worker/channel/segment.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

/* One call: other threads of the same processor must not wait long for its end. */
#define STEP_BYTES     (32 * 1024)
/* More than the open block, to whose header the recorder goes back. */
#define KEPT_BEHIND    (256 * 1024)
#define LET_GO_AT_ONCE (1024 * 1024)

struct segment *segment_open(int *fd, const struct segment_grant *grant, int *ret_error)
{
    struct stat status;
    struct segment *segment = calloc(1, sizeof *segment);
    if (!segment || fstat(*fd, &status) < 0) {
        *ret_error = segment ? errno : ENOMEM;
        goto fail;
    }
    if (status.st_ino != grant->id || (uint64_t)status.st_size < grant->size || grant->size == 0) {
        *ret_error = ESTALE; /* somebody cut or replaced the file since it was made */
        goto fail;
    }
    segment->map = mmap(NULL, grant->size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (segment->map == MAP_FAILED) {
        *ret_error = errno;
        goto fail;
    }
    segment->grant = *grant;
    segment->fd = fd_take(fd);
    atomic_store(&segment->references, 1);
    return segment;
fail:
    free(segment);
    fd_close(fd);
    return NULL;
}

struct segment *segment_keep(struct segment *segment)
{
    if (segment)
        atomic_fetch_add(&segment->references, 1);
    return segment;
}

void segment_release(struct segment **segment)
{
    struct segment *gone = *segment;
    *segment = NULL;
    if (!gone || atomic_fetch_sub(&gone->references, 1) != 1)
        return;
    munmap(gone->map, gone->grant.size);
    fd_close(&gone->fd);
    free(gone);
}

void segment_fail(struct segment *segment, int error, const char *what)
{
    if (atomic_load(&segment->error))
        return;
    segment->error_what = what;
    atomic_store(&segment->error, error);
}

void segment_look(struct segment *segment)
{
    struct stat status;
    if (fstat(segment->fd, &status) < 0)
        segment_fail(segment, errno, "asking for its size");
    else if (status.st_nlink == 0)
        segment_fail(segment, ENOENT, "its file was deleted");
    else if ((uint64_t)status.st_size < segment->grant.size)
        segment_fail(segment, ESTALE, "its file was cut short");
}

static uint64_t page_of(uint64_t offset)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return offset / page * page;
}

void segment_populate(struct segment *segment, uint64_t offset, uint64_t ahead)
{
    uint64_t from = atomic_load(&segment->populated);
    uint64_t until =
        offset + ahead < segment->grant.size ? page_of(offset + ahead) : segment->grant.size;
    if (from < page_of(offset))
        from = page_of(offset); /* what lies behind is not written any more */
    while (from < until) {
        uint64_t length = until - from < STEP_BYTES ? until - from : STEP_BYTES;
#ifdef MADV_POPULATE_WRITE
        /* An error means that the recorder will meet the fault itself, guarded; asking again would
         * not help. */
        if (madvise(segment->map + from, length, MADV_POPULATE_WRITE) < 0 && errno == EINTR)
            continue;
#endif
        from += length;
        atomic_store(&segment->populated, from);
    }
}

void segment_let_go(struct segment *segment, uint64_t offset)
{
    if (offset > segment->grant.size)
        return; /* read from shared memory; behind the map there is memory of others */
    uint64_t until = offset > KEPT_BEHIND ? page_of(offset - KEPT_BEHIND) : 0;
    if (segment->let_go == 0 &&
        until > LET_GO_AT_ONCE) /* taken over: this process has not touched what is behind */
        segment->let_go = until - LET_GO_AT_ONCE;
    if (until < segment->let_go + LET_GO_AT_ONCE)
        return;
    for (; segment->let_go < until; segment->let_go += STEP_BYTES) {
        uint64_t length =
            until - segment->let_go < STEP_BYTES ? until - segment->let_go : STEP_BYTES;
        madvise(segment->map + segment->let_go, length,
                MADV_DONTNEED); /* the file keeps it; a failure costs memory only */
    }
    segment->let_go = until;
}
