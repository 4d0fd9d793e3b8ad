/* SPDX-License-Identifier: MIT */
/* Maps a segment file that the archive has preallocated. The map is never longer than the file was at hand-over; if it
 * shrinks later, the recorder's guard catches the SIGBUS. */
#include "worker/channel/segment.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

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

void segment_populate(struct segment *segment, uint64_t until)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t from = atomic_load(&segment->populated);
    if (until > segment->grant.size)
        until = segment->grant.size;
    until = (until + page - 1) / page * page;
    if (until <= from)
        return;
#ifdef MADV_POPULATE_WRITE
    /* An error means that the recorder will meet the fault itself, guarded; asking again would not help. */
    if (madvise(segment->map + from, until - from, MADV_POPULATE_WRITE) < 0 && errno == EINTR)
        return;
#endif
    atomic_store(&segment->populated, until);
}
