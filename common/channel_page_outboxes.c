/* SPDX-License-Identifier: MIT */
/* The slots of outboxes, and what they mean to whoever comes after a worker that died. Called by
 * the receiver of a channel with publishers, by its successor, and by the supervisor. No value that
 * lies here may lead outside the ring, nor a mixed slot be taken for sound. */
#include "common/channel_page_outboxes.h"

#include <errno.h>

#include "common/channel_slot.h"

#define WORDS_BEFORE_ENTRIES 2
#define WORDS_OF_ENTRY       (sizeof(struct outbox_entry) / sizeof(uint64_t))

_Static_assert(sizeof(struct outbox_progress) + sizeof(uint64_t) == sizeof(struct outbox_slot),
               "slot = progress + check");

static size_t words_of(uint64_t used)
{
    return WORDS_BEFORE_ENTRIES + (size_t)used * WORDS_OF_ENTRY;
}

/* The slot of this version, or nothing. */
static bool load(const struct channel_page *page, uint64_t version, struct outbox_progress *ret)
{
    const struct outbox_slot *slot = &page->outboxes[version & 1];
    uint64_t used = atomic_load_explicit(&slot->words[1], memory_order_relaxed);
    *ret = (struct outbox_progress){0};
    return used <= CHANNEL_PUBLISHERS_MAX &&
           channel_slot_load(slot->words, &ret->seq, words_of(used), version) && ret->used == used;
}

bool channel_page_read_outboxes(const struct channel_page *page, struct outbox_progress *ret)
{
    for (int attempt = 0; attempt < CHANNEL_SLOT_READ_TRIES; attempt++) {
        uint64_t version = atomic_load_explicit(&page->outbox_version, memory_order_acquire);
        bool sound = load(page, version, ret);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&page->outbox_version, memory_order_relaxed) != version)
            continue;
        if (version == 0)
            *ret = (struct outbox_progress){0};
        return sound || version == 0;
    }
    return false;
}

bool channel_page_read_outboxes_published(const struct channel_page *page,
                                          struct outbox_progress *ret)
{
    uint64_t published = atomic_load_explicit(&page->public.published, memory_order_acquire);
    uint64_t version = atomic_load_explicit(&page->outbox_version, memory_order_acquire);
    if (!channel_page_read_outboxes(page, ret))
        return false;
    if (ret->seq <= published)
        return true;
    if (version <= 1) { /* it was the first batch */
        *ret = (struct outbox_progress){0};
        return true;
    }
    return load(page, version - 1, ret) && ret->seq <= published;
}

void channel_page_write_outboxes(struct channel_page *page, const struct outbox_progress *progress)
{
    uint64_t version = atomic_load_explicit(&page->outbox_version, memory_order_relaxed) + 1;
    channel_slot_store(page->outboxes[version & 1].words, &progress->seq, words_of(progress->used),
                       version);
    atomic_store_explicit(&page->outbox_version, version, memory_order_release);
}

int channel_page_publish_taken(struct channel_page *page, const struct channel_geometry *geometry,
                               const char **ret_what)
{
    struct outbox_progress progress;
    uint64_t published = atomic_load_explicit(&page->public.published, memory_order_acquire);
    if (!channel_page_read_outboxes(page, &progress)) {
        *ret_what = "how far the outboxes of its publishers are taken can't be read";
        return -EBADMSG;
    }
    if (progress.seq <= published)
        return 0;
    if (progress.seq - published > geometry->slot_count ||
        progress.seq > atomic_load(&page->public.reserved_seq)) {
        *ret_what = "more was taken out of outboxes than there was room for";
        return -EBADMSG;
    }
    atomic_store_explicit(&page->public.published, progress.seq, memory_order_release);
    return (int)(progress.seq - published);
}
