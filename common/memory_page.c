/* SPDX-License-Identifier: MIT */
/* Room for maps whose pages may be larger than the kernel's own. Called by whoever maps a channel's
 * memory. Must never take address space that somebody else has. */
#include "common/memory_page.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/vfs.h>

uint64_t memory_page_unit(int fd)
{
    struct statfs about;
    /* hugetlbfs says the size of its pages, tmpfs that of the kernel's. */
    if (fstatfs(fd, &about) < 0 || about.f_bsize <= 0)
        return memory_page_size();
    return (uint64_t)about.f_bsize;
}

int memory_page_reserve(size_t size, size_t offset, uint64_t unit, uint8_t **ret_base)
{
    size_t spare = unit > memory_page_size() ? unit : 0;
    uint8_t *base =
        mmap(NULL, size + spare, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return -errno;
    size_t before = spare ? (size_t)(unit - ((uintptr_t)base + offset) % unit) % unit : 0;
    if (before)
        munmap(base, before);
    if (spare > before)
        munmap(base + before + size, spare - before);
    *ret_base = base + before;
    return 0;
}
