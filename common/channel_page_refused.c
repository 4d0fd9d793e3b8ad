/* SPDX-License-Identifier: MIT */
/* Words of the private memory, each an inode number on its own, so that worker and supervisor may
 * write them at any time: what one of them forgets can't be what the other one notes. Must never
 * lose one for want of room. */
#include "common/channel_page_refused.h"

#include <stddef.h>

_Static_assert(offsetof(struct channel_private, quarantined) ==
                   offsetof(struct channel_private, segments) + 128,
               "the words lie where memory of an earlier program reads 0");

bool channel_page_any_refused(const struct channel_page *page)
{
    for (int i = 0; i < CHANNEL_REFUSED_MAX; i++)
        if (atomic_load(&page->private.refused[i]) != 0)
            return true;
    return atomic_load(&page->private.refused_more) != 0;
}

static bool is_noted(const struct channel_page *page, uint64_t segment_id)
{
    for (int i = 0; i < CHANNEL_REFUSED_MAX; i++)
        if (atomic_load(&page->private.refused[i]) == segment_id)
            return true;
    return false;
}

bool channel_page_was_refused(const struct channel_page *page, uint64_t segment_id)
{
    return segment_id != 0 &&
           (is_noted(page, segment_id) || atomic_load(&page->private.refused_more) != 0);
}

void channel_page_note_refused(struct channel_page *page, uint64_t segment_id)
{
    if (segment_id == 0 || is_noted(page, segment_id))
        return;
    for (int i = 0; i < CHANNEL_REFUSED_MAX; i++) {
        uint64_t none = 0;
        if (atomic_compare_exchange_strong(&page->private.refused[i], &none, segment_id))
            return;
    }
    atomic_store(&page->private.refused_more, 1);
}

void channel_page_forget_refused(struct channel_page *page, uint64_t segment_id)
{
    for (int i = 0; i < CHANNEL_REFUSED_MAX && segment_id != 0; i++) {
        uint64_t expected = segment_id;
        atomic_compare_exchange_strong(&page->private.refused[i], &expected, 0);
    }
}

void channel_page_settle_refused(struct channel_page *page,
                                 bool (*stays)(void *data, uint64_t segment_id), void *data)
{
    atomic_store(&page->private.refused_more, 0);
    for (int i = 0; i < CHANNEL_REFUSED_MAX; i++) {
        uint64_t id = atomic_load(&page->private.refused[i]);
        if (id != 0 && !stays(data, id))
            atomic_compare_exchange_strong(&page->private.refused[i], &id, 0);
    }
}
