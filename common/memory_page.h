/* SPDX-License-Identifier: MIT */
/* The kernel's pages, in bytes: what is mapped, populated or written back is made of whole ones. */
#ifndef HOLDFAST_COMMON_MEMORY_PAGE_H
#define HOLDFAST_COMMON_MEMORY_PAGE_H

#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

static inline uint64_t memory_page_size(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The start of the page that this byte is in. */
static inline uint64_t memory_page_floor(uint64_t offset)
{
    uint64_t page = memory_page_size();
    return offset / page * page;
}

/* The end of the last page of so many bytes. */
static inline uint64_t memory_page_ceil(uint64_t size)
{
    uint64_t page = memory_page_size();
    return (size + page - 1) / page * page;
}

/* What a file is mapped in: huge pages where it is made of them, else the kernel's. */
uint64_t memory_page_unit(int fd);

/* Address space for `size` bytes, to be mapped over (MAP_FIXED), in which `offset` lies on a whole
 * `unit`. 0 or -errno. */
int memory_page_reserve(size_t size, size_t offset, uint64_t unit, uint8_t **ret_base);

#endif
