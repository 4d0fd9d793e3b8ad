/* SPDX-License-Identifier: MIT */
/* Huge pages for ring memory: what the machine has of them, and why a memfd can't have any
 * (hugetlbpage.rst of the kernel's documentation, memfd_create(2)). */
#ifndef HOLDFAST_COMMON_HUGE_PAGES_H
#define HOLDFAST_COMMON_HUGE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The only size that is asked for, so that where things lie in a ring is the same wherever it is
 * computed. */
#define HUGE_PAGE_SIZE (2ull << 20)

struct huge_pages {
    bool known;          /* the kernel has pages of this size at all */
    uint64_t configured; /* pages: vm.nr_hugepages */
    uint64_t free;       /* of these, neither used nor promised to somebody */
};

void huge_pages_read(struct huge_pages *ret);

/* The setting for transparent huge pages of shared memory: "advise", "never", ...; "" when the
 * kernel does not tell. */
void huge_pages_read_transparent(char *text, size_t size);

/* A memfd of `size` bytes that is made of huge pages, all of them promised to it: nothing that is
 * written into it later finds them gone. memfd_create(2)'s name and flags. Returns the descriptor
 * or -errno. */
int huge_pages_memfd(const char *name, unsigned flags, uint64_t size);

/* Why huge_pages_memfd() returned `error` (> 0), with what the machine has and how to get more. */
void huge_pages_explain(int error, uint64_t size, char *text, size_t text_size);

#endif
