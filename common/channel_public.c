/* SPDX-License-Identifier: MIT */
/* Maps and reads the public memory of a channel. Called by the gate and by the library, for memory
 * that others write while they look. No value in it may lead outside what is mapped. */
#include "common/channel_public.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "common/channel_memory.h"
#include "common/channel_slot.h"
#include "common/memory_page.h"

static const char *find_geometry(int fd, struct channel_geometry *ret)
{
    struct channel_public page;
    struct channel_shape shape;
    if (!channel_memory_read_public(fd, &page))
        return "it is no public memory of this version";
    if (page.struct_size != sizeof page)
        return "its page has another size";
    page.channel[sizeof page.channel - 1] = '\0';
    /* A layout is found again by the settings that it comes from; and sealed, no size changes. */
    if (!channel_memory_find_shape(fd, page.channel, &shape))
        return "it is not laid out, or not sealed, as holdfast does it";
    channel_shape_geometry(&shape, ret);
    return NULL;
}

int channel_public_map(int fd, bool whole, struct channel_public_map *ret, const char **ret_what)
{
    *ret = (struct channel_public_map){0};
    *ret_what = "";
    const char *what = find_geometry(fd, &ret->geometry);
    if (what) {
        *ret_what = what;
        return -EBADMSG;
    }
    /* Huge pages are unmapped as a whole. */
    uint64_t unit = memory_page_unit(fd);
    uint64_t size = whole ? ret->geometry.total_size : CHANNEL_PUBLIC_SIZE;
    size = (size + unit - 1) / unit * unit;
    void *base = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    madvise(base, size, MADV_DONTFORK);
    ret->page = base;
    ret->size = size;
    return 0;
}

void channel_public_unmap(struct channel_public_map *map)
{
    if (map->page)
        munmap((void *)map->page, map->size);
    *map = (struct channel_public_map){0};
}

bool channel_public_read_commit(const struct channel_public *page, struct commit_progress *ret)
{
    return channel_slot_read_pair(&page->commit_version, &page->commit[0].segment_id,
                                  sizeof *ret / sizeof(uint64_t), &ret->segment_id);
}

uint64_t channel_public_durable(const struct channel_public *page, uint64_t segment_id)
{
    if (atomic_load(&page->durable_segment_id) != segment_id)
        return 0;
    uint64_t offset = atomic_load(&page->durable_offset);
    /* It may have changed meanwhile: the offset is then another segment's. */
    return atomic_load(&page->durable_segment_id) == segment_id ? offset : 0;
}

bool channel_public_is_retired(const struct channel_public *page, uint64_t *ret_end)
{
    if (atomic_load(&page->retired) == RING_NOT_RETIRED)
        return false;
    if (ret_end)
        *ret_end = atomic_load(&page->retired_end);
    return true;
}
