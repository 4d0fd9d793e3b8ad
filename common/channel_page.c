/* SPDX-License-Identifier: MIT */
/* Layout and the slot flips of the memory that a channel's generations share. Called by
 * workers, by the supervisor and by tests. Whoever wrote the memory may have been killed or gone
 * wild: no value in it may lead outside the geometry, and no slot that is mixed may be taken for
 * sound. */
#include "common/channel_page.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/channel_slot.h"
#include "common/huge_pages.h"
#include "common/inflight_batch.h"
#include "common/memory_page.h"

_Static_assert(sizeof(struct ring_descriptor) == CACHE_LINE, "one descriptor, one cache line");
_Static_assert(offsetof(struct channel_page, sums) == sizeof(struct channel_private) &&
                   offsetof(struct channel_page, outboxes) + 2 * sizeof(struct outbox_slot) <=
                       CHANNEL_PRIVATE_SIZE &&
                   sizeof(struct channel_public) <= 4096 &&
                   offsetof(struct channel_page, public) == CHANNEL_PRIVATE_SIZE &&
                   sizeof(struct channel_page) == CHANNEL_PRIVATE_SIZE + CHANNEL_PUBLIC_SIZE,
               "the two memories are mapped one behind the other, and have room to spare");
_Static_assert(sizeof(struct destination_place) == 2 * CACHE_LINE, "a place is two cache lines");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "shared words must not need a process-local lock");

const char *const channel_thread_names[CHANNEL_THREAD_COUNT] = {"control", "receiver", "recorder",
                                                                "decimator", "syncer"};

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

void channel_shape_geometry(const struct channel_shape *shape, struct channel_geometry *ret)
{
    /* What is to be mapped in huge pages begins at one, and ends at one. */
    uint64_t page = shape->ring_pages == RING_PAGES_HUGE ? HUGE_PAGE_SIZE : memory_page_size();
    struct channel_geometry geometry = {.max_datagram = shape->max_datagram};

    geometry.segments_per_slot = shape->receive_offload ? BATCH_SEGMENTS_MAX : 1;
    geometry.slot_size =
        (uint32_t)round_up(shape->receive_offload ? 65536 : shape->max_datagram, CACHE_LINE);
    geometry.data_capacity = round_up(shape->ring_size, page);
    if (geometry.data_capacity < 8ull * geometry.slot_size)
        geometry.data_capacity = round_up(8ull * geometry.slot_size, page);
    uint64_t slots = geometry.data_capacity / 4 / geometry.slot_size;
    geometry.slot_count = slots > BATCH_SLOTS_MAX ? BATCH_SLOTS_MAX : (uint32_t)slots;
    geometry.tail = geometry.slot_size;

    /* A descriptor per 512 bytes of data, and never so few that one batch could fill a quarter of
     * them. */
    uint64_t descriptors = geometry.data_capacity / 512;
    uint64_t least = 4ull * geometry.slot_count * geometry.segments_per_slot;
    geometry.descriptor_count = descriptors < least ? least : descriptors;

    geometry.descriptor_offset = CHANNEL_PUBLIC_SIZE;
    geometry.data_offset = round_up(geometry.descriptor_offset +
                                        geometry.descriptor_count * sizeof(struct ring_descriptor),
                                    page);
    geometry.total_size =
        geometry.data_offset + round_up(geometry.data_capacity + geometry.tail, page);
    *ret = geometry;
}

struct channel_shape channel_shape_of(const struct channel_spec *spec)
{
    return (struct channel_shape){.ring_size = spec->ring_size,
                                  .max_datagram = spec->max_datagram,
                                  .receive_offload = spec->receive_offload,
                                  .ring_pages = spec->ring_pages};
}

void channel_geometry_compute(const struct channel_spec *spec, struct channel_geometry *ret)
{
    const struct channel_shape shape = channel_shape_of(spec);
    channel_shape_geometry(&shape, ret);
}

/* ---- slots: as channel_slot.h reads and stores them ---- */

#define WORDS_OF(progress) (sizeof(struct progress) / sizeof(uint64_t))
_Static_assert(sizeof(struct relay_slot) == sizeof(struct relay_progress) + 8,
               "slot = progress + check");
_Static_assert(sizeof(struct commit_slot) == sizeof(struct commit_progress) + 8,
               "slot = progress + check");
_Static_assert(sizeof(struct decimate_slot) == sizeof(struct decimate_progress) + 8,
               "slot = progress + check");
_Static_assert(sizeof(struct destination_slot) == sizeof(struct destination_progress) + 8,
               "slot = progress + check");

bool channel_page_read_relay(const struct channel_page *page, struct relay_progress *ret)
{
    return channel_slot_read_pair(&page->private.relay_version, &page->private.relay[0].next_seq,
                                  WORDS_OF(relay_progress), &ret->next_seq);
}

bool channel_page_read_commit(const struct channel_page *page, struct commit_progress *ret)
{
    return channel_slot_read_pair(&page->public.commit_version, &page->public.commit[0].segment_id,
                                  WORDS_OF(commit_progress), &ret->segment_id);
}

bool channel_page_read_decimate(const struct channel_page *page, struct decimate_progress *ret)
{
    return channel_slot_read_pair(&page->private.decimate_version,
                                  &page->private.decimate[0].next_seq, WORDS_OF(decimate_progress),
                                  &ret->next_seq);
}

static bool is_of_use(const struct destination_place *place, enum destination_use use)
{
    return atomic_load_explicit(&place->use, memory_order_acquire) == (uint16_t)use;
}

/* A program that knows no sums flips without them, and leaves both of its slots behind: each says
 * itself of which version it is, and the younger one is what the sum said last. Of a damaged slot
 * the other one is the last but one, where nobody was left behind. */
static bool read_left_behind(const _Atomic uint64_t *version_word,
                             const struct destination_slot slots[2],
                             struct destination_progress *ret)
{
    const size_t count = WORDS_OF(destination_progress);
    uint64_t version = atomic_load_explicit(version_word, memory_order_acquire);
    const struct destination_slot *current = &slots[version & 1], *other = &slots[~version & 1];
    uint64_t of_current = channel_slot_version(&current->sent, count);
    uint64_t of_other = channel_slot_version(&other->sent, count);
    if (of_current == 0 || of_current >= version || (version - of_current) % 2 != 0 ||
        (of_other == version - 1 && of_current != version - 2))
        return false;
    bool is_younger =
        of_other > of_current && of_other <= version + 1 && (version - of_other) % 2 != 0;
    channel_slot_load(is_younger ? &other->sent : &current->sent, &ret->sent, count, version);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(version_word, memory_order_relaxed) == version;
}

bool channel_page_read_destination(const struct channel_page *page, uint32_t place,
                                   struct destination_progress *ret)
{
    if (place >= CHANNEL_PLACES_MAX)
        return false;
    const struct destination_place *it = channel_page_place(page, place);
    if (!is_of_use(it, DESTINATION_IS_RELAY) && !is_of_use(it, DESTINATION_IS_DECIMATE))
        return false;
    const _Atomic uint64_t *version_word = is_of_use(it, DESTINATION_IS_RELAY)
                                               ? &page->private.relay_version
                                               : &page->private.decimate_version;
    return channel_slot_read_pair(version_word, &it->slots[0].sent, WORDS_OF(destination_progress),
                                  &ret->sent) ||
           (place >= CHANNEL_DESTINATIONS_MAX && read_left_behind(version_word, it->slots, ret));
}

bool channel_page_slots_are_of(const struct destination_slot slots[2], uint64_t version)
{
    struct destination_progress counts = {0};
    return channel_slot_load(&slots[version & 1].sent, &counts.sent, WORDS_OF(destination_progress),
                             version);
}

bool channel_page_is_destination(const struct channel_page *page, int place,
                                 enum destination_use use, const char *name)
{
    return place >= 0 && place < CHANNEL_DESTINATIONS_MAX &&
           is_of_use(&page->private.places[place], use) &&
           strncmp(page->private.places[place].name, name, CHANNEL_NAME_SIZE) == 0;
}

int channel_page_find_destination(const struct channel_page *page, enum destination_use use,
                                  const char *name)
{
    for (int i = 0; i < CHANNEL_DESTINATIONS_MAX; i++)
        if (channel_page_is_destination(page, i, use, name))
            return i;
    return -1;
}

/* `due_ns` last: until then it is as new as before. */
static void send_from(struct destination_rate *rate, uint64_t seq)
{
    atomic_store(&rate->sent, seq);
    atomic_store(&rate->attempted, seq);
    atomic_store(&rate->due_ns, 0);
}

/* Its place lost its use to damaged memory: nobody who gives a place back leaves counts in it. */
static int find_disowned(const struct channel_page *page, const char *name, uint64_t version)
{
    struct destination_progress counts = {0};
    for (int i = 0; i < CHANNEL_DESTINATIONS_MAX; i++) {
        const struct destination_place *it = &page->private.places[i];
        if (is_of_use(it, DESTINATION_UNUSED) && strncmp(it->name, name, CHANNEL_NAME_SIZE) == 0 &&
            channel_slot_load(&it->slots[version & 1].sent, &counts.sent,
                              WORDS_OF(destination_progress), version) &&
            counts.sent + counts.dropped + counts.repeated > 0)
            return i;
    }
    return -1;
}

int channel_page_place_destination(struct channel_page *page, enum destination_use use,
                                   const char *name, uint64_t from_seq)
{
    const struct destination_progress nothing = {0};
    const _Atomic uint64_t *version_word = use == DESTINATION_IS_RELAY
                                               ? &page->private.relay_version
                                               : &page->private.decimate_version;
    uint64_t version = atomic_load_explicit(version_word, memory_order_relaxed);
    int place = channel_page_find_destination(page, use, name);
    if (place >= 0) {
        if (atomic_load(&page->private.rates[place].due_ns) == DESTINATION_AWAY)
            send_from(&page->private.rates[place], from_seq);
        return place;
    }
    place = find_disowned(page, name, version);
    if (place >= 0) {
        atomic_store_explicit(&page->private.places[place].use, (uint16_t)use,
                              memory_order_release);
        return place;
    }
    for (place = 0; place < CHANNEL_DESTINATIONS_MAX; place++)
        if (is_of_use(&page->private.places[place], DESTINATION_UNUSED))
            break;
    if (place == CHANNEL_DESTINATIONS_MAX)
        return -1;
    struct destination_place *it = &page->private.places[place];
    memset(it->slots, 0, sizeof it->slots); /* the idle one may be sound, of the other use */
    atomic_thread_fence(memory_order_release);
    memset(it->name, 0, sizeof it->name);
    memcpy(it->name, name, strnlen(name, sizeof it->name - 1));
    atomic_store(&it->segmentation, 0);
    atomic_store(&it->send_error, 0);
    send_from(&page->private.rates[place], from_seq);
    channel_slot_store(&it->slots[version & 1].sent, &nothing.sent, WORDS_OF(destination_progress),
                       version);
    atomic_store_explicit(&it->use, (uint16_t)use, memory_order_release);
    return place;
}

static void tally_store(struct channel_page *page, const struct destination_tally *tally,
                        uint64_t version)
{
    for (uint32_t i = 0; i < tally->count; i++)
        channel_slot_store(&channel_page_place(page, tally->places[i])->slots[version & 1].sent,
                           &tally->counts[i].sent, WORDS_OF(destination_progress), version);
}

void channel_page_write_relay(struct channel_page *page, const struct relay_progress *progress,
                              const struct destination_tally *tally)
{
    uint64_t version = atomic_load_explicit(&page->private.relay_version, memory_order_relaxed) + 1;
    channel_slot_store(&page->private.relay[version & 1].next_seq, &progress->next_seq,
                       WORDS_OF(relay_progress), version);
    tally_store(page, tally, version);
    atomic_store_explicit(&page->private.relay_version, version, memory_order_release);
}

void channel_page_write_commit(struct channel_page *page, const struct commit_progress *progress)
{
    uint64_t version = atomic_load_explicit(&page->public.commit_version, memory_order_relaxed) + 1;
    channel_slot_store(&page->public.commit[version & 1].segment_id, &progress->segment_id,
                       WORDS_OF(commit_progress), version);
    atomic_store_explicit(&page->public.commit_version, version, memory_order_release);
}

void channel_page_write_decimate(struct channel_page *page,
                                 const struct decimate_progress *progress,
                                 const struct destination_tally *tally)
{
    uint64_t version =
        atomic_load_explicit(&page->private.decimate_version, memory_order_relaxed) + 1;
    channel_slot_store(&page->private.decimate[version & 1].next_seq, &progress->next_seq,
                       WORDS_OF(decimate_progress), version);
    tally_store(page, tally, version);
    atomic_store_explicit(&page->private.decimate_version, version, memory_order_release);
}

/* ---- segments ---- */

static void words_store(_Atomic uint64_t words[2], const uint8_t bytes[16])
{
    uint64_t values[2];
    memcpy(values, bytes, sizeof values);
    atomic_store_explicit(&words[0], values[0], memory_order_relaxed);
    atomic_store_explicit(&words[1], values[1], memory_order_relaxed);
}

static void words_load(const _Atomic uint64_t words[2], uint8_t ret_bytes[16])
{
    uint64_t values[2] = {atomic_load_explicit(&words[0], memory_order_relaxed),
                          atomic_load_explicit(&words[1], memory_order_relaxed)};
    memcpy(ret_bytes, values, sizeof values);
}

void channel_page_note_segment(struct channel_page *page, uint64_t id, const uint8_t sync[16],
                               const uint8_t log[16])
{
    struct segment_identity *segments = page->private.segments;
    struct commit_progress commit = {0};
    channel_page_read_commit(page, &commit);
    struct segment_identity *free =
        &segments[atomic_load(&segments[0].id) == commit.segment_id && commit.segment_id ? 1 : 0];
    atomic_store_explicit(&free->id, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    words_store(free->sync, sync);
    words_store(free->log, log);
    atomic_store_explicit(&free->id, id, memory_order_release);
}

bool channel_page_find_segment(const struct channel_page *page, uint64_t id, uint8_t ret_sync[16],
                               uint8_t ret_log[16])
{
    for (int i = 0; i < 2 && id; i++) {
        const struct segment_identity *it = &page->private.segments[i];
        if (atomic_load_explicit(&it->id, memory_order_acquire) != id)
            continue;
        words_load(it->sync, ret_sync);
        words_load(it->log, ret_log);
        return true;
    }
    return false;
}

/* ---- set-up and validation ---- */

static uint64_t start_check(const struct channel_public *public)
{
    return channel_slot_mix(channel_slot_mix(CHANNEL_PAGE_MAGIC, public->start_seq),
                            public->start_position) |
           1;
}

void channel_page_set_start(struct channel_page *page, uint64_t seq, uint64_t position)
{
    page->public.start_seq = seq;
    page->public.start_position = position;
    page->public.start_check = start_check(&page->public);
}

bool channel_page_start_is_sound(const struct channel_page *page)
{
    return page->public.start_check == 0 || page->public.start_check == start_check(&page->public);
}

void channel_page_init(struct channel_page *page, const struct channel_geometry *geometry,
                       const struct channel_page_start *start)
{
    const struct destination_tally none = {0};
    struct channel_public *public = &page->public;
    struct channel_private *private = &page->private;
    public->version = private->version = CHANNEL_PAGE_VERSION;
    public->struct_size = sizeof *public;
    private->struct_size = sizeof *private;
    public->pair = private->pair = start->pair;
    public->geometry = *geometry;
    strncpy(public->channel, start->channel, sizeof public->channel - 1);
    channel_page_set_start(page, start->seq, start->position);
    atomic_store(&public->published, start->seq);
    atomic_store(&public->reserved_position, start->position);
    atomic_store(&public->reserved_seq, start->seq);
    atomic_store(&private->relay_attempted, start->seq);
    atomic_store(&private->decimate_attempted, start->seq);
    channel_page_set_drops(page, start->seq, 0);
    channel_page_write_relay(page, &(struct relay_progress){.next_seq = start->seq}, &none);
    channel_page_write_commit(page, &(struct commit_progress){.next_seq = start->seq});
    channel_page_write_decimate(page, &(struct decimate_progress){.next_seq = start->seq}, &none);
    atomic_store(&private->batch.armed_seq, start->seq);
    atomic_store(&private->batch.armed_position, start->position);
    atomic_thread_fence(memory_order_release);
    private->magic = CHANNEL_PAGE_MAGIC;
    public->magic = CHANNEL_PAGE_MAGIC;
}

void channel_page_retire(struct channel_page *page, enum ring_retired why, uint64_t end)
{
    atomic_store(&page->public.retired_end, end);
    atomic_store(&page->public.retired, (uint32_t)why);
}

uint64_t channel_page_durable(const struct channel_page *page, uint64_t segment_id)
{
    if (atomic_load(&page->public.durable_segment_id) != segment_id)
        return 0;
    uint64_t offset = atomic_load(&page->public.durable_offset);
    /* It may have changed meanwhile: the offset is then another segment's. */
    return atomic_load(&page->public.durable_segment_id) == segment_id ? offset : 0;
}

/* Two words: a reader takes the offset only if the id is the same before and after. */
void channel_page_write_durable(struct channel_page *page, uint64_t segment_id, uint64_t offset)
{
    atomic_store(&page->public.durable_segment_id, 0);
    atomic_store(&page->public.durable_offset, offset);
    atomic_store(&page->public.durable_segment_id, segment_id);
}

void channel_page_set_drops(struct channel_page *page, uint64_t from_seq, uint32_t drops)
{
    atomic_store(&page->private.drops_base, drops);
    atomic_store(&page->private.drops_from_seq, from_seq);
}

uint64_t channel_page_bytes(const struct channel_page *page,
                            const struct channel_geometry *geometry, uint64_t published)
{
    uint64_t received = published - page->public.start_seq, told[3] = {0}, length[3] = {0};
    bool known = true; /* not all are taken in with what an older ring still held */
    for (uint64_t i = 0; i < 3 && i < received; i++) {
        const struct ring_descriptor *it =
            channel_page_descriptor(page, geometry, published - 1 - i);
        told[i] = atomic_load_explicit(&it->bytes_total, memory_order_relaxed);
        length[i] = atomic_load_explicit(&it->length_cut, memory_order_relaxed) >> 32;
        known = known && atomic_load_explicit(&it->origin, memory_order_relaxed) != 0;
    }
    uint64_t total = known && told[1] == told[2] + length[1] ? told[1] + length[0] : told[0];
    return total / geometry->slot_size > received ? 0 : total;
}

bool channel_page_is_uneven(const struct channel_page *page, const struct commit_progress *commit)
{
    uint64_t passed = commit->next_seq - page->public.start_seq;
    return commit->recorded > passed || commit->record_lost > passed - commit->recorded;
}
