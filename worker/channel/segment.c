/* SPDX-License-Identifier: MIT */
/* Maps a segment file that the archive has preallocated. The map is never longer than the file was
 * at hand-over; if it shrinks later, the recorder's guard catches the SIGBUS. Opened for
 * the recorder, which writes into the map; the syncer does what may take long. Offsets
 * from shared memory must never lead behind the map. */
#include "worker/channel/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "common/channel_page.h"
#include "common/disk_refusal.h"
#include "common/fd.h"
#include "common/huge_pages.h"
#include "common/memory_page.h"

/* One call. The kernel does not let another thread onto the processor before its end, if it is
 * built without preemption; so calls are short, and who waits goes first in between. */
#define SHORT_STEP (32 * 1024)
#define CHEAP_STEP (512 * 1024)
/* More than the open block, to whose header the recorder goes back: pages before it are done. */
#define OPEN_END       (256 * 1024)
#define LET_GO_AT_ONCE (1024 * 1024)

/* The kernel keeps the file in large pages where it can. In a map that is not aligned as the file
 * is, every small page of a large one costs a fault that goes through all of it. */
static int map_aligned(int fd, size_t size, uint8_t **ret_map)
{
    uint8_t *room;
    int result = memory_page_reserve(memory_page_ceil(size), 0, HUGE_PAGE_SIZE, &room);
    if (result < 0)
        return result;
    *ret_map = mmap(room, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (*ret_map != MAP_FAILED)
        return 0;
    result = -errno;
    munmap(room, memory_page_ceil(size));
    return result;
}

/* A segment's file is known by its id. 0 and its size as it is now, -ESTALE when it is not the file
 * that was granted, or -errno. */
static int file_size(int fd, const struct segment_grant *grant, uint64_t *ret_size)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    *ret_size = (uint64_t)status.st_size;
    return S_ISREG(status.st_mode) && status.st_ino == grant->id ? 0 : -ESTALE;
}

struct segment *segment_open(int *fd, const struct segment_grant *grant, int *ret_error)
{
    uint64_t size = 0;
    struct segment *segment = calloc(1, sizeof *segment);
    int result = segment ? file_size(*fd, grant, &size) : -ENOMEM;
    if (result == 0 && (size < grant->size || grant->size == 0))
        result = -ESTALE;
    if (result < 0) { /* -ESTALE: somebody cut or replaced the file since it was made */
        *ret_error = -result;
        goto fail;
    }
    result = map_aligned(*fd, grant->size, &segment->map);
    if (result < 0) {
        *ret_error = -result;
        goto fail;
    }
    segment->grant = *grant;
    segment->fd = fd_take(fd);
    segment_prefer(segment, SEGMENT_SHORT_CALLS);
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

void segment_name(struct segment *segment, const char *channel, const struct commit_progress *work)
{
    avro_log_segment_name(channel, work->segment_first_seq, work->segment_created_ns,
                          segment->name);
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

/* [from, until), a step at a time. Returns the end of what is done. */
static uint64_t in_steps(struct segment *segment, uint64_t from, uint64_t until,
                         bool (*step)(struct segment *segment, uint64_t from, uint64_t length))
{
    uint64_t most = segment->preference == SEGMENT_CHEAP ? CHEAP_STEP : SHORT_STEP;
    while (from < until) {
        uint64_t length = until - from < most ? until - from : most;
        if (!step(segment, from, length))
            return until; /* asking again would not help */
        from += length;
        sched_yield();
    }
    return from;
}

void segment_prefer(struct segment *segment, enum segment_preference preference)
{
    if (segment->preference == preference)
        return;
    segment->preference = preference;
    bool cheap = preference == SEGMENT_CHEAP;
    madvise(segment->map, segment->grant.size, cheap ? MADV_NORMAL : MADV_NOHUGEPAGE);
    madvise(segment->map, segment->grant.size, cheap ? MADV_HUGEPAGE : MADV_RANDOM);
}

/* An error means that the recorder will meet the fault itself, guarded. */
static bool populate_step(struct segment *segment, uint64_t from, uint64_t length)
{
#ifdef MADV_POPULATE_WRITE
    while (madvise(segment->map + from, length, MADV_POPULATE_WRITE) < 0 && errno == EINTR)
        continue;
#endif
    atomic_store(&segment->populated, from + length);
    return true;
}

void segment_populate(struct segment *segment, uint64_t offset, uint64_t ahead)
{
    uint64_t from = atomic_load(&segment->populated);
    uint64_t until = offset + ahead < segment->grant.size ? memory_page_floor(offset + ahead)
                                                          : segment->grant.size;
    if (from < memory_page_floor(offset))
        from = memory_page_floor(offset); /* what lies behind is not written any more */
    if (from < until)
        atomic_store(&segment->populated, in_steps(segment, from, until, populate_step));
}

static bool let_go_step(struct segment *segment, uint64_t from, uint64_t length)
{
    madvise(segment->map + from, length, MADV_DONTNEED); /* a failure costs memory only */
    return true;
}

void segment_let_go(struct segment *segment, uint64_t offset)
{
    if (offset > segment->grant.size)
        return; /* read from shared memory; behind the map there is memory of others */
    uint64_t until = offset > OPEN_END ? memory_page_floor(offset - OPEN_END) : 0;
    if (segment->let_go == 0 &&
        until > LET_GO_AT_ONCE) /* taken over: this process has not touched what is behind */
        segment->let_go = until - LET_GO_AT_ONCE;
    if (until < segment->let_go + LET_GO_AT_ONCE)
        return;
    segment->let_go = in_steps(segment, segment->let_go, until, let_go_step);
}

static bool write_back_step(struct segment *segment, uint64_t from, uint64_t length)
{
    /* What fails here fails again in fdatasync(2), which tells. */
    return sync_file_range(segment->fd, (off64_t)from, (off64_t)length, SYNC_FILE_RANGE_WRITE) == 0;
}

void segment_write_back(struct segment *segment, uint64_t offset)
{
    if (offset > segment->grant.size || offset < OPEN_END)
        return; /* read from shared memory */
    /* A page that is written to afterwards is written to the disk again, as a whole. */
    uint64_t until = memory_page_floor(offset - OPEN_END);
    if (segment->preference == SEGMENT_CHEAP)
        until = until / HUGE_PAGE_SIZE * HUGE_PAGE_SIZE;
    if (segment->written_back == 0 && until > LET_GO_AT_ONCE)
        segment->written_back = until - LET_GO_AT_ONCE;
    if (until > segment->written_back)
        segment->written_back = in_steps(segment, segment->written_back, until, write_back_step);
}

int segment_sync(struct segment *segment, uint64_t offset)
{
    if (offset <= segment->grant.size)
        in_steps(segment, segment->written_back, offset, write_back_step);
    return disk_refusal_sync(segment->fd, fdatasync);
}

int segment_sync_all(struct segment *segment)
{
    return syncfs(segment->fd) < 0 ? -errno : 0;
}
