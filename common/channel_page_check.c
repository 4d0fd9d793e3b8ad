/* SPDX-License-Identifier: MIT */
/* Validates the memory that a channel's generations share, before anything in it is used. Called by
 * workers, by the supervisor and by tests. Whoever wrote it may have been killed or gone wild: no
 * value in it may lead outside the geometry. */
#include "common/channel_page_check.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/inflight_batch.h"
#include "common/inflight_delivered.h"

/* No ring gets there: going back to the front, which costs a whole lap, ends at RING_REWIND_MAX,
 * and from there on 1 GB/s takes 290 years. Sums of positions and sizes below it never wrap. */
#define POSITION_MAX (3ull << 62)

static uint64_t batch_bytes(const struct channel_geometry *geometry)
{
    return (uint64_t)geometry->slot_count * geometry->slot_size;
}

/* Does every descriptor that a reader still needs lie in order, in the ring and in its limits? */
static const char *check_descriptors(const struct channel_page *page,
                                     const struct ring_descriptor *descriptors,
                                     const struct channel_geometry *geometry, uint64_t from,
                                     uint64_t published)
{
    uint64_t reserved = atomic_load_explicit(&page->public.reserved_position, memory_order_relaxed);
    uint64_t end_before = 0;
    bool first = true;
    assert(from <= published && published - from <= geometry->descriptor_count);
    for (uint64_t seq = from; seq != published; seq++) {
        const struct ring_descriptor *descriptor = &descriptors[seq % geometry->descriptor_count];
        uint64_t position = atomic_load_explicit(&descriptor->position, memory_order_relaxed);
        uint64_t length = atomic_load_explicit(&descriptor->length_cut, memory_order_relaxed) >> 32;
        uint64_t family = atomic_load_explicit(&descriptor->origin, memory_order_relaxed) & 0xff;
        if (length > geometry->slot_size)
            return "a datagram is longer than its slot";
        if (position < page->public.start_position || position > reserved ||
            reserved - position < length)
            return "a datagram lies outside the reserved part of the ring";
        if (!first && position < end_before)
            return "two datagrams overlap";
        if (!ring_family_is_known(family))
            return "a datagram's source is neither IPv4 nor IPv6 nor a local program";
        end_before = position + length;
        first = false;
    }
    /* The writer goes on behind the last one; only a rewind and one batch may have been reserved
     * since. */
    if (!first && reserved - end_before > geometry->data_capacity + 2ull * batch_bytes(geometry))
        return "the reserved part of the ring goes too far beyond the last datagram";
    return NULL;
}

/* Nobody can tell that a place is missing, but a sum that was begun stays. */
static bool is_sum_damaged(const struct destination_place *sum, enum destination_use use)
{
    uint64_t counted = 0;
    for (int i = 0; i < 2; i++)
        counted |= atomic_load_explicit(&sum->slots[i].sent, memory_order_relaxed) |
                   atomic_load_explicit(&sum->slots[i].dropped, memory_order_relaxed) |
                   atomic_load_explicit(&sum->slots[i].repeated, memory_order_relaxed);
    uint16_t used = atomic_load_explicit(&sum->use, memory_order_acquire);
    return used == DESTINATION_UNUSED ? counted != 0 : used != (uint16_t)use;
}

static const char *check_places(const struct channel_page *page)
{
    for (uint32_t i = 0; i < CHANNEL_PLACES_MAX; i++) {
        const struct destination_place *place = channel_page_place(page, i);
        struct destination_progress counts;
        if (atomic_load_explicit(&place->use, memory_order_acquire) == DESTINATION_UNUSED)
            continue;
        if (!channel_page_read_destination(page, i, &counts))
            return "a destination's counters are damaged";
        if (strnlen(place->name, sizeof place->name) == sizeof place->name)
            return "a destination's name is damaged";
    }
    for (int use = DESTINATION_IS_RELAY; use <= DESTINATION_IS_DECIMATE; use++)
        if (is_sum_damaged(
                channel_page_place(page, channel_page_sum_place((enum destination_use)use)),
                (enum destination_use)use))
            return "the counters of destinations that are gone are damaged";
    return NULL;
}

static const char *check_progress(const struct channel_page *page, uint64_t published,
                                  uint64_t *ret_oldest)
{
    struct relay_progress relay;
    struct commit_progress commit;
    struct decimate_progress decimate;
    if (!channel_page_read_relay(page, &relay) || relay.next_seq > published ||
        relay.next_seq < page->public.start_seq)
        return "the relay's position is damaged";
    if (!channel_page_read_commit(page, &commit) || commit.next_seq > published ||
        commit.next_seq < page->public.start_seq || commit.block_start > commit.write_offset ||
        channel_page_is_uneven(page, &commit))
        return "the log's commit slot is damaged";
    if (!channel_page_read_decimate(page, &decimate) || decimate.next_seq > published ||
        decimate.next_seq < page->public.start_seq)
        return "the decimator's position is damaged";
    uint64_t relay_attempted =
        atomic_load_explicit(&page->private.relay_attempted, memory_order_relaxed);
    uint64_t decimate_attempted =
        atomic_load_explicit(&page->private.decimate_attempted, memory_order_relaxed);
    if (relay_attempted < page->public.start_seq || relay_attempted > published ||
        decimate_attempted < page->public.start_seq || decimate_attempted > published)
        return "what was attempted to be sent is impossible";
    const char *what = check_places(page);
    if (what)
        return what;
    *ret_oldest = relay.next_seq < commit.next_seq ? relay.next_seq : commit.next_seq;
    if (decimate.next_seq < *ret_oldest)
        *ret_oldest = decimate.next_seq;
    return NULL;
}

static const char *check_batch(const struct channel_page *page,
                               const struct channel_geometry *geometry, uint64_t published)
{
    const struct inflight_batch *batch = &page->private.batch;
    uint64_t armed = atomic_load_explicit(&batch->armed_seq, memory_order_relaxed);
    uint64_t most = (uint64_t)geometry->slot_count * geometry->segments_per_slot;
    if (published < armed || published - armed > most)
        return "the published position and the in-flight batch disagree";
    if (atomic_load_explicit(&batch->count, memory_order_relaxed) > geometry->slot_count)
        return "the in-flight batch is longer than it can be";
    uint64_t position = atomic_load_explicit(&batch->armed_position, memory_order_relaxed);
    uint64_t reserved = atomic_load_explicit(&page->public.reserved_position, memory_order_relaxed);
    if (reserved > POSITION_MAX)
        return "the reserved position is impossible";
    if (position < page->public.start_position || position > reserved ||
        reserved - position > geometry->data_capacity + 2ull * batch_bytes(geometry))
        return "the in-flight batch lies outside the reserved part of the ring";
    return NULL;
}

/* No check word vouches for `published`. Where the relay, whose slot has one, has come to it, it is
 * right; else the batch tells: either all that the kernel has delivered of it is published or
 * nothing. Who dies while it is armed anew leaves nothing that could be asked. */
static const char *check_published(const struct channel_page *page,
                                   const struct channel_geometry *geometry, uint64_t published)
{
    const struct inflight_batch *batch = &page->private.batch;
    uint64_t armed = atomic_load_explicit(&batch->armed_seq, memory_order_relaxed);
    struct relay_progress relay;
    if (atomic_load_explicit(&batch->armed, memory_order_acquire) != 1 || armed == published ||
        (channel_page_read_relay(page, &relay) && relay.next_seq == published))
        return NULL;
    uint32_t delivered = inflight_delivered(batch, geometry);
    return published - armed == inflight_datagrams(batch, geometry, delivered)
               ? NULL
               : "the published position and the in-flight batch disagree";
}

/* A new socket came to the ring: behind what was published, or behind what the kernel had given to
 * the worker before, too. */
static const char *check_drops(const struct channel_page *page,
                               const struct channel_geometry *geometry, uint64_t published)
{
    uint64_t from = atomic_load_explicit(&page->private.drops_from_seq, memory_order_relaxed);
    if (from >= page->public.start_seq &&
        (from <= published || from - published == inflight_unpublished(page, geometry)))
        return NULL;
    return "the place from which drops are counted is impossible";
}

/* Which descriptors have to be sound? Those of pending datagrams, as far as they were not lapped (a
 * lapped one was reused and says nothing), and always the last one: the writer goes on there. */
static const char *check_reserved_seq(const struct channel_page *page,
                                      const struct channel_geometry *geometry, uint64_t published,
                                      uint64_t *oldest)
{
    uint64_t reserved = atomic_load_explicit(&page->public.reserved_seq, memory_order_relaxed);
    if (reserved < published ||
        reserved - published > (uint64_t)geometry->slot_count * geometry->segments_per_slot)
        return "the reserved sequence number is impossible";
    if (*oldest == published && published > page->public.start_seq)
        *oldest = published - 1;
    if (reserved > geometry->descriptor_count && *oldest < reserved - geometry->descriptor_count)
        *oldest = reserved - geometry->descriptor_count;
    return NULL;
}

static bool is_version(const struct channel_page *page)
{
    return page->public.version == CHANNEL_PAGE_VERSION &&
           page->private.version == CHANNEL_PAGE_VERSION &&
           page->public.struct_size == sizeof page->public &&
           page->private.struct_size == sizeof page->private;
}

const char *channel_page_stranger(const struct channel_page *page,
                                  const struct channel_geometry *geometry, const char *channel)
{
    if (page->public.magic != CHANNEL_PAGE_MAGIC || page->private.magic != CHANNEL_PAGE_MAGIC)
        return "no channel page (magic)";
    if (!is_version(page))
        return "a channel page of another version";
    if (page->public.pair != page->private.pair)
        return "its public and its private memory belong to different rings";
    if (memcmp(&page->public.geometry, geometry, sizeof *geometry) != 0)
        return "the layout is not that of the configuration";
    if (strncmp(page->public.channel, channel, sizeof page->public.channel) != 0)
        return "it belongs to another channel";
    if (!channel_page_start_is_sound(page))
        return "the number or position at which it began is damaged";
    return NULL;
}

static const char *check_positions(const struct channel_page *page,
                                   const struct ring_descriptor *descriptors,
                                   const struct channel_geometry *geometry)
{
    uint64_t published = atomic_load_explicit(&page->public.published, memory_order_acquire);
    uint64_t oldest = published;
    if (published < page->public.start_seq || published > INT64_MAX)
        return "the published position is impossible";
    if (atomic_load(&page->private.converted) == RING_TO_BE_CONVERTED)
        return "the ring of an older version that it was to take in is missing";
    const char *what = check_batch(page, geometry, published);
    if (!what)
        what = check_progress(page, published, &oldest);
    if (!what)
        what = check_published(page, geometry, published);
    if (!what)
        what = check_drops(page, geometry, published);
    if (!what)
        what = check_reserved_seq(page, geometry, published, &oldest);
    if (!what)
        what = check_descriptors(page, descriptors, geometry, oldest, published);
    return what;
}

int channel_page_check(const struct channel_page *page, const struct ring_descriptor *descriptors,
                       const struct channel_geometry *geometry, const char *channel,
                       const char **ret_what)
{
    const char *what = channel_page_stranger(page, geometry, channel);
    if (!what)
        what = check_positions(page, descriptors, geometry);
    *ret_what = what ? what : "";
    return what ? -EBADMSG : 0;
}
