/* SPDX-License-Identifier: MIT */
/* The two memfds behind a channel page: made together, mapped one behind the other. */
#ifndef HOLDFAST_COMMON_CHANNEL_MEMORY_H
#define HOLDFAST_COMMON_CHANNEL_MEMORY_H

#include <stdbool.h>

#include "common/channel_page.h"

struct channel_memory {
    int ring;         /* public: struct channel_public, descriptors, data */
    int private_part; /* struct channel_private; carries the claim */
};

/* Both with a fresh page, and sealed: nobody who is handed them can change their size. 0, or -errno
 * with *ret_step saying what failed; both are -1 then. */
int channel_memory_make(const struct channel_geometry *geometry,
                        const struct channel_page_start *start, struct channel_memory *ret,
                        const char **ret_step);

/* Are these two descriptors of the sizes that this geometry asks for, and sealed? */
bool channel_memory_is_ring(int fd, const struct channel_geometry *geometry);
bool channel_memory_is_private(int fd);

/* The part that readers are lent, of a ring of this version; false when it is none. */
bool channel_memory_read_public(int fd, struct channel_public *ret);
/* The shape of a ring that was made for this channel with other settings; false when it is no such
 * ring, sealed and of the size that the shape asks for. */
bool channel_memory_find_shape(int fd, const char *channel, struct channel_shape *ret);

/* Map everything but the data. 0 or -errno. Touching what is beyond a file's end is SIGBUS: ask the
 * two functions above first. */
int channel_memory_map(const struct channel_memory *memory, const struct channel_geometry *geometry,
                       struct channel_page **ret);
void channel_memory_unmap(struct channel_page **page, const struct channel_geometry *geometry);

#endif
