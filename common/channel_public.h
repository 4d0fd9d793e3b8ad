/* SPDX-License-Identifier: MIT */
/* A channel's public memory, as those see it who have nothing else of it: the gate and readers.
 * Mapped read-only; whoever writes it is not believed. */
#ifndef HOLDFAST_COMMON_CHANNEL_PUBLIC_H
#define HOLDFAST_COMMON_CHANNEL_PUBLIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/channel_page.h"

struct channel_public_map {
    const struct channel_public *page; /* NULL = not mapped */
    size_t size;                       /* bytes that are mapped */
    /* One that holdfast makes, and the descriptor's own size fits it: nothing inside it is a fault.
     * What the page itself says of it may change at any time: don't look there. */
    struct channel_geometry geometry;
};

/* Map it: the page alone, or everything, descriptors and data too. The descriptor stays the
 * caller's, and isn't needed any more. 0; -EBADMSG with *ret_what: it is no public memory of this
 * version, sealed and of the size that it says; or -errno. *ret is not mapped then. */
int channel_public_map(int fd, bool whole, struct channel_public_map *ret, const char **ret_what);
void channel_public_unmap(struct channel_public_map *map);

/* The commit slot as it is now; false when no sound one could be read. */
bool channel_public_read_commit(const struct channel_public *page, struct commit_progress *ret);

/* Bytes of this segment that are on the disk; 0 where nobody has said anything. */
uint64_t channel_public_durable(const struct channel_public *page, uint64_t segment_id);

/* Datagrams before this number exist. */
static inline uint64_t channel_public_published(const struct channel_public *page)
{
    return atomic_load_explicit(&page->published, memory_order_acquire);
}

/* Does this ring take no more datagrams? *ret_end (may be NULL): the first number that it doesn't
 * have. */
bool channel_public_is_retired(const struct channel_public *page, uint64_t *ret_end);

#endif
