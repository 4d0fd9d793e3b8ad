/* SPDX-License-Identifier: MIT */
/* Reads rings of layout version 1 and converts them. Called by the supervisor for what it restores,
 * and by the first worker that takes such a ring over. Must never follow a number of the old memory
 * out of the old memory: whoever wrote it may have gone wild. */
#include "common/channel_page_v1.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/channel_memory.h"
#include "common/channel_page.h"
#include "common/channel_page_places.h"
#include "common/channel_spec.h"
#include "common/inflight_batch.h"
#include "common/inflight_delivered.h"
#include "common/memory_page.h"
#include "common/ring.h"
#include "common/ring_map.h"

#define SEALS         (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define MAPPED_MIRROR 2

struct geometry_v1 {
    uint64_t total_size, batch_offset, descriptor_offset, descriptor_count, data_offset;
    uint64_t data_capacity, tail;
    uint32_t max_datagram, slot_size, slot_count, segments_per_slot, destination_count, reserved;
};

struct page_v1 {
    uint64_t magic;
    uint32_t version;
    uint32_t page_size;
    struct geometry_v1 geometry;
    char channel[CHANNEL_NAME_SIZE];
    uint64_t start_seq;
    uint64_t start_position;

    _Alignas(CACHE_LINE) _Atomic uint64_t published;
    _Alignas(CACHE_LINE) _Atomic uint64_t reserved_position;
    _Atomic uint64_t reserved_seq;
    _Atomic uint32_t mapping;
    _Atomic uint32_t drops_base;
    _Atomic uint64_t drops_from_seq;

    _Alignas(CACHE_LINE) _Atomic uint64_t relay_version;
    struct relay_slot relay[2];
    _Atomic uint64_t relay_attempted;
    _Alignas(CACHE_LINE) _Atomic uint64_t commit_version;
    struct commit_slot commit[2];
    _Alignas(CACHE_LINE) _Atomic uint64_t decimate_version;
    struct decimate_slot decimate[2];
    _Atomic uint64_t decimate_attempted;

    _Alignas(CACHE_LINE) _Atomic uint64_t durable_segment_id;
    _Atomic uint64_t durable_offset;
    _Atomic uint64_t quarantined;
    _Alignas(CACHE_LINE) _Atomic uint32_t segmentation[CHANNEL_DESTINATIONS_MAX];

    struct thread_beat beats[CHANNEL_THREAD_COUNT];
    _Alignas(CACHE_LINE) struct consumer_trouble trouble[CONSUMER_COUNT];
    _Atomic uint64_t generation;
    _Atomic uint32_t test_step;
    _Atomic uint32_t test_stopped;
    struct last_words last_words;
    _Alignas(CACHE_LINE) struct destination_slot destinations[CHANNEL_DESTINATIONS_MAX][2];
};

_Static_assert(sizeof(struct page_v1) == 19712, "as version 1 had it");

static struct geometry_v1 geometry_v1(const struct channel_geometry *now)
{
    struct geometry_v1 then = {.descriptor_count = now->descriptor_count,
                               .data_capacity = now->data_capacity,
                               .tail = now->tail,
                               .max_datagram = now->max_datagram,
                               .slot_size = now->slot_size,
                               .slot_count = now->slot_count,
                               .segments_per_slot = now->segments_per_slot};
    then.batch_offset = memory_page_ceil(sizeof(struct page_v1));
    then.descriptor_offset = memory_page_ceil(then.batch_offset + sizeof(struct inflight_batch));
    then.data_offset = memory_page_ceil(then.descriptor_offset +
                                        then.descriptor_count * sizeof(struct ring_descriptor));
    then.total_size = then.data_offset + memory_page_ceil(then.data_capacity + then.tail);
    return then;
}

bool channel_page_v1_is_one(int fd, const struct channel_geometry *geometry)
{
    struct channel_public public;
    struct stat about;
    /* A ring of today may be of the same size, and says what it is. */
    return fcntl(fd, F_GET_SEALS) == SEALS && fstat(fd, &about) == 0 &&
           (uint64_t)about.st_size == geometry_v1(geometry).total_size &&
           !channel_memory_read_public(fd, &public);
}

/* ---- the old memory, mapped for reading ---- */

struct old_ring {
    struct geometry_v1 geometry;
    const struct page_v1 *page;
    const struct inflight_batch *batch;
    const struct ring_descriptor *descriptors;
};

/* NULL, or what is wrong with it. */
static const char *check_identity(const struct old_ring *old, const char *channel)
{
    const struct page_v1 *page = old->page;
    struct geometry_v1 expected = old->geometry;
    uint64_t published = atomic_load(&page->published);
    expected.destination_count = page->geometry.destination_count; /* the list may have changed */
    if (page->magic != CHANNEL_PAGE_MAGIC || page->version != 1 || page->page_size != sizeof *page)
        return "no channel page of version 1";
    if (memcmp(&page->geometry, &expected, sizeof expected) != 0 ||
        expected.destination_count > CHANNEL_DESTINATIONS_MAX)
        return "the layout is not that of the configuration";
    if (strncmp(page->channel, channel, sizeof page->channel) != 0)
        return "it belongs to another channel";
    if (page->start_seq > INT64_MAX || published < page->start_seq || published > INT64_MAX)
        return "the published position is impossible";
    uint64_t relayed = atomic_load(&page->relay[atomic_load(&page->relay_version) & 1].next_seq);
    if (relayed > published || published - relayed > old->geometry.descriptor_count)
        return "the published position is too far ahead of the relay's";
    return NULL;
}

static void close_old(struct old_ring *old)
{
    munmap((void *)(uintptr_t)old->page, old->geometry.data_offset);
}

static int open_old(int fd, const struct channel_geometry *geometry, const char *channel,
                    struct old_ring *ret, const char **ret_what)
{
    *ret_what = "its size is not that of the settings";
    if (!channel_page_v1_is_one(fd, geometry))
        return -EBADMSG;
    ret->geometry = geometry_v1(geometry);
    *ret_what = "it can't be mapped";
    const uint8_t *base = mmap(NULL, ret->geometry.data_offset, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    ret->page = (const struct page_v1 *)base;
    ret->batch = (const struct inflight_batch *)(base + ret->geometry.batch_offset);
    ret->descriptors = (const struct ring_descriptor *)(base + ret->geometry.descriptor_offset);
    const char *what = check_identity(ret, channel);
    *ret_what = what ? what : "";
    if (!what)
        return 0;
    close_old(ret);
    return -EBADMSG;
}

/* What the kernel has given to the last worker, and that one has not published. */
static uint64_t unpublished(const struct old_ring *old, const struct channel_geometry *geometry)
{
    const struct inflight_batch *batch = old->batch;
    if (atomic_load(&batch->armed) != 1 ||
        atomic_load(&batch->armed_seq) != atomic_load(&old->page->published))
        return 0;
    return inflight_datagrams(batch, geometry, inflight_delivered(batch, geometry));
}

int channel_page_v1_read(int fd, const struct channel_geometry *geometry, const char *channel,
                         struct channel_page_v1_summary *ret, const char **ret_what)
{
    struct old_ring old;
    int error = open_old(fd, geometry, channel, &old, ret_what);
    if (error < 0)
        return error;
    const struct page_v1 *page = old.page;
    const struct commit_slot *commit = &page->commit[atomic_load(&page->commit_version) & 1];
    uint64_t relay = atomic_load(&page->relay_version);
    *ret = (struct channel_page_v1_summary){
        .start_seq = page->start_seq,
        .start_position = page->start_position,
        .published = atomic_load(&page->published),
        .unpublished = unpublished(&old, geometry),
        .committed = atomic_load(&commit->next_seq),
        .recorded = atomic_load(&commit->recorded),
        .record_lost = atomic_load(&commit->record_lost),
        .kernel_dropped = atomic_load(&page->relay[relay & 1].kernel_dropped),
        .generation = atomic_load(&page->generation),
        .drops_base = atomic_load(&page->drops_base),
        .drops_known = atomic_load(&page->drops_from_seq) == page->start_seq};
    const uint64_t passed = ret->committed - ret->start_seq;
    if (ret->committed < ret->start_seq || ret->committed > ret->published ||
        ret->recorded > passed || ret->record_lost > passed - ret->recorded) {
        ret->committed = ret->published; /* damaged: nothing of it is told */
        ret->recorded = ret->record_lost = 0;
    }
    close_old(&old);
    return 0;
}

/* ---- conversion ---- */

#define COPY(to, from) memcpy(&(to), &(from), sizeof(to))

/* Slots and their versions as they are: the check words vouch for them in the new place, too. */
static void copy_page(const struct page_v1 *from, struct channel_page *to)
{
    struct channel_public *public = &to->public;
    struct channel_private *private = &to->private;
    channel_page_set_start(to, from->start_seq, from->start_position);
    COPY(public->reserved_position, from->reserved_position);
    COPY(public->reserved_seq, from->reserved_seq);
    COPY(public->commit_version, from->commit_version);
    COPY(public->commit, from->commit);
    COPY(public->durable_segment_id, from->durable_segment_id);
    COPY(public->durable_offset, from->durable_offset);
    COPY(private->relay_version, from->relay_version);
    COPY(private->relay, from->relay);
    COPY(private->relay_attempted, from->relay_attempted);
    COPY(private->decimate_version, from->decimate_version);
    COPY(private->decimate, from->decimate);
    COPY(private->decimate_attempted, from->decimate_attempted);
    COPY(private->quarantined, from->quarantined);
    COPY(private->beats, from->beats);
    COPY(private->trouble, from->trouble);
    COPY(private->generation, from->generation);
    if (atomic_load(&private->drops_from_seq) == CHANNEL_DROPS_AS_BEFORE)
        channel_page_set_drops(to, atomic_load(&from->drops_from_seq),
                               atomic_load(&from->drops_base));
}

/* ---- destinations: they had no names then ---- */

/* Which version word vouches for this one's counters? Where both do, it is taken for a relay. */
static bool is_of(const struct page_v1 *from, uint32_t index, enum destination_use use)
{
    const _Atomic uint64_t *version =
        use == DESTINATION_IS_RELAY ? &from->relay_version : &from->decimate_version;
    return channel_page_slots_are_of(from->destinations[index], atomic_load(version));
}

static enum destination_use use_of(const struct page_v1 *from, uint32_t index)
{
    if (is_of(from, index, DESTINATION_IS_RELAY))
        return DESTINATION_IS_RELAY;
    return is_of(from, index, DESTINATION_IS_DECIMATE) ? DESTINATION_IS_DECIMATE
                                                       : DESTINATION_UNUSED;
}

/* As many of each kind as now, as far as anybody can tell. */
static bool is_same_list(const struct page_v1 *from, const struct channel_spec *spec)
{
    uint32_t count = channel_spec_destination_count(spec);
    if (from->geometry.destination_count != count)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!is_of(from, i, channel_page_use_of(spec, i)))
            return false;
    return true;
}

/* Of those of another list nobody can tell which is which: they count as gone, in places without a
 * name, and what they were sent stays in the ledger. */
static void keep_as_gone(const struct page_v1 *from, struct channel_page *to)
{
    for (uint32_t i = 0; i < from->geometry.destination_count; i++) {
        COPY(to->private.places[i].slots, from->destinations[i]);
        atomic_store(&to->private.places[i].use, (uint16_t)use_of(from, i));
    }
}

/* Its place; where none is left, one without a name gives its own up. */
static int make_place(struct channel_page *to, const struct channel_spec *spec, uint32_t index)
{
    enum destination_use use = channel_page_use_of(spec, index);
    const char *name = spec->destinations[index].name;
    int place = channel_page_place_destination(to, use, name, 0);
    if (place >= 0)
        return place;
    int gone = channel_page_find_destination(to, DESTINATION_IS_RELAY, "");
    if (gone < 0)
        gone = channel_page_find_destination(to, DESTINATION_IS_DECIMATE, "");
    if (gone < 0)
        return -1;
    channel_page_give_up(to, (uint32_t)gone);
    return channel_page_place_destination(to, use, name, 0);
}

/* Whoever is in the settings is sent what was not sent to everybody yet: it may have been there
 * before. A worker that has died over this has left places, and sums. */
static void copy_destinations(const struct page_v1 *from, const struct channel_spec *spec,
                              struct channel_page *to)
{
    bool same = is_same_list(from, spec);
    memset(to->private.places, 0, sizeof to->private.places);
    memset(to->private.rates, 0, sizeof to->private.rates);
    memset(to->sums, 0, sizeof to->sums);
    if (!same)
        keep_as_gone(from, to);
    for (uint32_t i = 0; i < channel_spec_destination_count(spec); i++) {
        int place = make_place(to, spec, i);
        if (place < 0 || !same)
            continue;
        COPY(to->private.places[place].slots, from->destinations[i]);
        COPY(to->private.places[place].segmentation, from->segmentation[i]);
    }
}

/* Did it record, and decimate? A position that has moved says so. One that has not may be that of a
 * channel which had just begun. */
static void copy_sections(const struct page_v1 *from, const struct channel_spec *spec,
                          struct channel_page *to)
{
    struct commit_progress commit = {0};
    channel_page_read_commit(to, &commit);
    bool recorded = commit.segment_id != 0 || commit.next_seq > from->start_seq;
    bool decimated = atomic_load(&from->decimate_attempted) > from->start_seq;
    atomic_store(&to->private.records, recorded || spec->record.enabled);
    atomic_store(&to->private.decimates, decimated || is_same_list(from, spec));
}

static uint64_t at_least(uint64_t value, uint64_t least)
{
    return value > least ? value : least;
}

/* The oldest datagram that somebody may still want. */
static uint64_t oldest_wanted(const struct old_ring *old)
{
    const struct page_v1 *page = old->page;
    uint64_t published = atomic_load(&page->published);
    uint64_t relay = atomic_load(&page->relay_version), commit = atomic_load(&page->commit_version);
    uint64_t decimate = atomic_load(&page->decimate_version);
    uint64_t oldest = published > page->start_seq ? published - 1 : published;
    const uint64_t wanted[] = {atomic_load(&page->relay[relay & 1].next_seq),
                               atomic_load(&page->commit[commit & 1].next_seq),
                               atomic_load(&page->decimate[decimate & 1].next_seq)};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        if (wanted[i] < oldest)
            oldest = wanted[i];
    oldest = at_least(oldest, page->start_seq);
    if (published > old->geometry.descriptor_count)
        oldest = at_least(oldest, published - old->geometry.descriptor_count);
    return oldest;
}

/* The same position in both; `tail` bytes from any position are in one piece in both maps. */
static void copy_data(const struct ring_map *from, const struct ring_map *to, uint64_t position,
                      uint64_t length)
{
    if (length > from->tail || length > to->tail)
        return; /* no datagram is that long: channel_page_check() will say so */
    memcpy(ring_map_at(to, position), ring_map_at(from, position), length);
    ring_map_mirror(to, position, length);
}

static void copy_datagrams(const struct old_ring *old, const struct ring_map *data, struct ring *to)
{
    uint64_t count = old->geometry.descriptor_count;
    uint64_t published = atomic_load(&old->page->published);
    for (uint64_t seq = oldest_wanted(old); seq < published; seq++) {
        const struct ring_descriptor *descriptor = &old->descriptors[seq % count];
        memcpy(&to->descriptors[seq % count], descriptor, sizeof *descriptor);
        copy_data(data, &to->data, atomic_load(&descriptor->position),
                  atomic_load(&descriptor->length_cut) >> 32);
    }
}

/* What the kernel may have given to the worker before, and nobody has published. */
static void copy_batch(const struct old_ring *old, const struct ring_map *data, struct ring *to)
{
    uint64_t position = atomic_load(&old->batch->armed_position);
    uint32_t count = atomic_load(&old->batch->count);
    memcpy(to->batch, old->batch, sizeof *to->batch);
    for (uint32_t i = 0; i < count && i < old->geometry.slot_count; i++)
        copy_data(data, &to->data, position + (uint64_t)i * old->geometry.slot_size,
                  old->geometry.slot_size);
}

int channel_page_v1_convert(int fd, const struct channel_spec *spec, struct ring *to,
                            const char **ret_what)
{
    struct old_ring old;
    struct ring_map data;
    int error = open_old(fd, &to->geometry, spec->name, &old, ret_what);
    if (error < 0)
        return error;
    bool mirrored = atomic_load(&old.page->mapping) == MAPPED_MIRROR;
    error =
        ring_map_open(fd, old.geometry.data_offset, old.geometry.data_capacity, old.geometry.tail,
                      mirrored ? RING_MAPPING_MIRROR : RING_MAPPING_AUTO, &data);
    if (error == 0) {
        if (!mirrored && !data.doubled)
            ring_map_refresh_tail(&data);
        copy_page(old.page, to->page);
        copy_destinations(old.page, spec, to->page);
        copy_sections(old.page, spec, to->page);
        copy_datagrams(&old, &data, to);
        copy_batch(&old, &data, to);
        atomic_store(&to->page->public.published, atomic_load(&old.page->published));
        atomic_store(&to->page->private.converted, RING_CONVERTED);
        ring_map_close(&data);
    } else {
        *ret_what = "its data can't be mapped";
    }
    close_old(&old);
    return error;
}
