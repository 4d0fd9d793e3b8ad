/* SPDX-License-Identifier: MIT */
/* How far the outboxes of a channel's publishers are taken: a pair of slots in the private memory.
 * Its flip is what takes a batch of datagrams: their descriptors are complete by then, and
 * `published` follows. */
#ifndef HOLDFAST_COMMON_CHANNEL_PAGE_OUTBOXES_H
#define HOLDFAST_COMMON_CHANNEL_PAGE_OUTBOXES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/channel_page.h"

struct outbox_entry {
    uint64_t id;       /* of the outbox that has this place, or had it last; 0 = none ever did */
    uint64_t position; /* everything before it is taken, */
    uint64_t count;    /* so many datagrams */
};

struct outbox_progress {
    uint64_t seq;  /* `published`, when this was written or right behind it */
    uint64_t used; /* entries that say something */
    struct outbox_entry entries[CHANNEL_PUBLISHERS_MAX];
};

/* As it stands. All zeros where nothing was ever taken; false where it can't be read. */
bool channel_page_read_outboxes(const struct channel_page *page, struct outbox_progress *ret);

/* As it stood when `published` was what it is: the slot before the present one, if a worker has
 * died between the two. For a ring that nobody goes on with. */
bool channel_page_read_outboxes_published(const struct channel_page *page,
                                          struct outbox_progress *ret);

void channel_page_write_outboxes(struct channel_page *page, const struct outbox_progress *progress);

/* For a successor, before it looks at anything else: what was taken, and not yet published, is
 * published. Returns how many datagrams these were, or -EBADMSG with *ret_what. */
int channel_page_publish_taken(struct channel_page *page, const struct channel_geometry *geometry,
                               const char **ret_what);

#endif
