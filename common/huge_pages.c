/* SPDX-License-Identifier: MIT */
/* Asks the kernel for huge pages and what it has of them. Called by whoever makes ring memory and
 * by `holdfastctl capabilities`. Must never leave a file whose pages nobody has promised: a
 * later touch would be SIGBUS. */
#include "common/huge_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"

#define POOL        "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define TRANSPARENT "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif

static bool read_line(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);
    fd_close(&fd);
    text[length > 0 ? length : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return length > 0;
}

static bool read_count(const char *path, uint64_t *ret)
{
    char text[32];
    unsigned long long count;
    *ret = 0;
    if (!read_line(path, text, sizeof text) || sscanf(text, "%llu", &count) != 1)
        return false;
    *ret = count;
    return true;
}

void huge_pages_read(struct huge_pages *ret)
{
    uint64_t promised = 0;
    ret->known = read_count(POOL "nr_hugepages", &ret->configured);
    read_count(POOL "free_hugepages", &ret->free);
    read_count(POOL "resv_hugepages", &promised);
    ret->free -= promised < ret->free ? promised : ret->free;
}

void huge_pages_read_transparent(char *text, size_t size)
{
    char line[128];
    text[0] = '\0';
    if (!read_line(TRANSPARENT, line, sizeof line))
        return;
    /* "always within_size advise [never] deny force": the one in brackets holds. */
    char *chosen = strchr(line, '[');
    if (chosen)
        snprintf(text, size, "%.*s", (int)strcspn(chosen + 1, "]"), chosen + 1);
}

int huge_pages_memfd(const char *name, unsigned flags, uint64_t size)
{
    int fd = memfd_create(name, flags | MFD_HUGETLB | MFD_HUGE_2MB);
    if (fd < 0)
        return -errno;
    /* A shared map promises the file its pages for as long as it lives. Taking them now would clear
     * them all, which is long for somebody who must not wait. */
    void *map = MAP_FAILED;
    if (ftruncate(fd, (off_t)size) == 0)
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        int error = errno;
        fd_close(&fd);
        return -error;
    }
    munmap(map, size);
    return fd;
}

void huge_pages_explain(int error, uint64_t size, char *text, size_t text_size)
{
    struct huge_pages pages;
    huge_pages_read(&pages);
    if (!pages.known)
        snprintf(text, text_size, "this kernel has no huge pages of 2 MiB");
    else if (error == ENOSPC || error == ENOMEM)
        snprintf(text, text_size, "%llu of 2 MiB needed, %llu free; raise vm.nr_hugepages (%llu)",
                 (unsigned long long)((size + HUGE_PAGE_SIZE - 1) / HUGE_PAGE_SIZE),
                 (unsigned long long)pages.free, (unsigned long long)pages.configured);
    else
        snprintf(text, text_size, "memfd_create with huge pages: %s", strerror(error));
}
