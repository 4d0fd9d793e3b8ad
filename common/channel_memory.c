/* SPDX-License-Identifier: MIT */
/* Makes, recognises and maps a channel's memory. Used by the supervisor, which makes and keeps it,
 * by workers, and by tests. Must never leave half of a pair behind. */
#include "common/channel_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_page.h"
#include "common/fd.h"
#include "common/huge_pages.h"
#include "common/memory_page.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int make_one(const char *prefix, const struct channel_page_start *start, bool huge_pages,
                    uint64_t size, const char **ret_step)
{
    char name[64 + CHANNEL_NAME_SIZE];
    snprintf(name, sizeof name, "%s:%s", prefix, start->channel);
    *ret_step = "memfd_create";
    if (huge_pages)
        return huge_pages_memfd(name, MFD_CLOEXEC | MFD_ALLOW_SEALING, size);
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    *ret_step = "ftruncate";
    if (ftruncate(fd, (off_t)size) < 0) {
        int error = errno;
        fd_close(&fd);
        return -error;
    }
    return fd;
}

static int set_up(const struct channel_memory *memory, const struct channel_geometry *geometry,
                  const struct channel_page_start *start, const char **ret_step)
{
    struct channel_page *page;
    *ret_step = "mmap";
    int error = channel_memory_map(memory, geometry, &page);
    if (error < 0)
        return error;
    channel_page_init(page, geometry, start);
    channel_memory_unmap(&page, geometry);
    *ret_step = "sealing it";
    /* A worker can't pull the memory away from under the supervisor or its own successor. */
    if (fcntl(memory->ring, F_ADD_SEALS, SEALS) < 0 ||
        fcntl(memory->private_part, F_ADD_SEALS, SEALS) < 0)
        return -errno;
    return 0;
}

int channel_memory_make(const struct channel_geometry *geometry,
                        const struct channel_page_start *start, struct channel_memory *ret,
                        const char **ret_step)
{
    struct channel_memory memory = {-1, -1};
    int error = 0;
    memory.ring = make_one("holdfast", start, start->huge_pages, geometry->total_size, ret_step);
    if (memory.ring < 0)
        error = memory.ring;
    if (!error) {
        memory.private_part =
            make_one("holdfast-private", start, false, CHANNEL_PRIVATE_SIZE, ret_step);
        error = memory.private_part < 0 ? memory.private_part : 0;
    }
    if (!error)
        error = set_up(&memory, geometry, start, ret_step);
    if (error < 0) {
        fd_close(&memory.ring);
        fd_close(&memory.private_part);
        memory = (struct channel_memory){-1, -1};
    }
    *ret = memory;
    return error;
}

static bool is_sealed(int fd, uint64_t size)
{
    struct stat about;
    return fcntl(fd, F_GET_SEALS) == SEALS && fstat(fd, &about) == 0 &&
           (uint64_t)about.st_size == size;
}

bool channel_memory_is_ring(int fd, const struct channel_geometry *geometry)
{
    return is_sealed(fd, geometry->total_size);
}

bool channel_memory_is_private(int fd)
{
    return is_sealed(fd, CHANNEL_PRIVATE_SIZE);
}

bool channel_memory_read_public(int fd, struct channel_public *ret)
{
    return pread(fd, ret, sizeof *ret, 0) == (ssize_t)sizeof *ret &&
           ret->magic == CHANNEL_PAGE_MAGIC && ret->version == CHANNEL_PAGE_VERSION;
}

bool channel_memory_find_shape(int fd, const char *channel, struct channel_shape *ret)
{
    struct channel_public public;
    struct channel_geometry geometry;
    if (!channel_memory_read_public(fd, &public) ||
        strncmp(public.channel, channel, sizeof public.channel) != 0)
        return false;
    *ret = (struct channel_shape){.ring_size = public.geometry.data_capacity,
                                  .max_datagram = public.geometry.max_datagram,
                                  .receive_offload = public.geometry.segments_per_slot > 1};
    if (ret->max_datagram == 0 || ret->max_datagram > 65535 || ret->ring_size == 0 ||
        ret->ring_size > 2 * CHANNEL_RING_SIZE_MAX)
        return false;
    for (ret->ring_pages = RING_PAGES_NORMAL; ret->ring_pages <= RING_PAGES_HUGE;
         ret->ring_pages++) {
        channel_shape_geometry(ret, &geometry);
        if (memcmp(&geometry, &public.geometry, sizeof geometry) == 0)
            return is_sealed(fd, geometry.total_size);
    }
    return false;
}

int channel_memory_map(const struct channel_memory *memory, const struct channel_geometry *geometry,
                       struct channel_page **ret)
{
    size_t size = CHANNEL_PRIVATE_SIZE + geometry->data_offset;
    uint8_t *base;
    *ret = NULL;
    /* The public memory, behind the private one, may be of huge pages. */
    int error =
        memory_page_reserve(size, CHANNEL_PRIVATE_SIZE, memory_page_unit(memory->ring), &base);
    if (error < 0)
        return error;
    if (mmap(base, CHANNEL_PRIVATE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             memory->private_part, 0) == MAP_FAILED ||
        mmap(base + CHANNEL_PRIVATE_SIZE, geometry->data_offset, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, memory->ring, 0) == MAP_FAILED) {
        error = errno;
        munmap(base, size);
        return -error;
    }
    madvise(base, size, MADV_DONTFORK); /* a child has no business there */
    *ret = (struct channel_page *)base;
    return 0;
}

void channel_memory_unmap(struct channel_page **page, const struct channel_geometry *geometry)
{
    if (*page)
        munmap(*page, CHANNEL_PRIVATE_SIZE + geometry->data_offset);
    *page = NULL;
}
