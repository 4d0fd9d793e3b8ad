/* SPDX-License-Identifier: MIT */
/* The layout of version 1, in which everything lay in one memfd. A worker brings what such a ring
 * still holds into memory of the present layout, once, when an older version's supervisor has
 * handed over to this one.
 *
 * The old memory is only read. What is written becomes valid with one word, private.converted,
 * which is written last: a worker that dies before has changed nothing that its successor believes,
 * and it begins again. Numbers go on where they stood, and so does the open segment. */
#ifndef HOLDFAST_COMMON_CHANNEL_PAGE_V1_H
#define HOLDFAST_COMMON_CHANNEL_PAGE_V1_H

#include <stdbool.h>

#include "common/channel_page.h"
#include "common/ring.h"

/* Is it such memory, made with the settings that lead to this geometry, and sealed? */
bool channel_page_v1_is_one(int fd, const struct channel_geometry *geometry);

/* What the supervisor has to know before a worker has looked at it. */
struct channel_page_v1_summary {
    uint64_t start_seq, start_position, published, unpublished;
    uint64_t committed, recorded, record_lost; /* up to the number `committed` */
    uint64_t kernel_dropped, generation;
    uint32_t drops_base;
    bool drops_known; /* one socket since the ring was made */
};

/* 0, or -EBADMSG with *ret_what, or another -errno. */
int channel_page_v1_read(int fd, const struct channel_geometry *geometry, const char *channel,
                         struct channel_page_v1_summary *ret, const char **ret_what);

/* Bring it all into a ring that was made with the same start. For a worker that holds the claims on
 * both. The result still has to pass channel_page_check(). 0, or -EBADMSG with *ret_what, or
 * another -errno. */
int channel_page_v1_convert(int fd, const struct channel_spec *spec, struct ring *to,
                            const char **ret_what);

#endif
