/* SPDX-License-Identifier: MIT */
/* Reads datagrams out of a ring that is mapped read-only, while its writer goes on and never looks
 * back. Called by hf_next(). No value in that memory may lead outside of it, and nothing counts
 * that was not looked at again after it was copied: the writer announces what it overwrites before
 * it does, and a ring is marked as retired before anything becomes of its memory. */
#include "common/client/reader_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_public.h"
#include "common/client/live_state.h"
#include "common/client/reader_link.h"
#include "common/client/live_ring.h"
#include "common/client/record.h"
#include "common/ring.h"

/* The newest one may be overwritten while it is looked at, again and again, by a writer that laps a
 * small ring; so often it is tried before somebody else may have the processor. */
#define NEWEST_TRIES 8

/* Instead of a pair: there was one before, and it was read as a log. */
#define RING_OF_LOG        1

#define load_relaxed(word) atomic_load_explicit(&(word), memory_order_relaxed)

static const struct ring_descriptor *descriptor_of(const struct channel_public_map *map,
                                                   uint64_t seq)
{
    const uint8_t *base = (const uint8_t *)map->page;
    return (const struct ring_descriptor *)(base + map->geometry.descriptor_offset) +
           seq % map->geometry.descriptor_count;
}

/* Nothing of it was announced to be overwritten, with `slack` to spare. */
static bool is_there(const struct channel_public_map *map, uint64_t seq, uint64_t position,
                     uint32_t slack)
{
    const struct channel_geometry *geometry = &map->geometry;
    return position + geometry->data_capacity >=
               load_relaxed(map->page->reserved_position) + (uint64_t)slack * geometry->slot_size &&
           seq + geometry->descriptor_count >= load_relaxed(map->page->reserved_seq) +
                                                   (uint64_t)slack * geometry->segments_per_slot;
}

/* After something was copied. */
static bool was_there(const struct channel_public_map *map, uint64_t seq, uint64_t position)
{
    atomic_thread_fence(memory_order_acquire); /* pairs with the one in ring_reserve() */
    return is_there(map, seq, position, 0) && !channel_public_is_retired(map->page, NULL);
}

/* ---- one datagram ---- */

/* false: it was overwritten, or is nonsense. */
static bool read_descriptor(const struct channel_public_map *map, uint64_t seq,
                            struct ring_datagram *ret)
{
    ring_descriptor_load(descriptor_of(map, seq), seq, ret);
    return was_there(map, seq, ret->position) && ret->length <= map->geometry.slot_size &&
           ring_family_is_known(ret->family) && ret->time_ns <= INT64_MAX;
}

static void fill(const struct ring_datagram *from, const void *data, struct hf_datagram *ret)
{
    union socket_address source;
    *ret = (struct hf_datagram){.seq = from->seq,
                                .time_ns = (int64_t)from->time_ns,
                                .data = data,
                                .length = from->length,
                                .cut = from->cut,
                                .lost_before = from->lost_before,
                                .flags =
                                    (from->flags & DATAGRAM_QUARANTINED ? HF_FLAG_QUARANTINED : 0) |
                                    (from->flags & DATAGRAM_NOT_COVERED ? HF_FLAG_UNCOVERED : 0)};
    ring_source(from, &source);
    record_set_source(&source, &ret->source);
}

/* Where its bytes begin. What goes on beyond the data's end goes on at its front: whatever mapping
 * the writer has, it is there before the datagram is published. */
static const uint8_t *data_of(const struct channel_public_map *map,
                              const struct ring_datagram *datagram, size_t *ret_first)
{
    const struct channel_geometry *geometry = &map->geometry;
    uint64_t offset = datagram->position % geometry->data_capacity;
    uint64_t room = geometry->data_capacity - offset;
    *ret_first = datagram->length < room ? datagram->length : (size_t)room;
    return (const uint8_t *)map->page + geometry->data_offset + offset;
}

static int have_copy(struct live_reader *reader)
{
    size_t size = reader->ring.map.geometry.slot_size;
    if (reader->copy_size >= size)
        return 0;
    uint8_t *copy = realloc(reader->copy, size);
    if (!copy)
        return -ENOMEM;
    reader->copy = copy;
    reader->copy_size = size;
    return 0;
}

/* false: it was overwritten meanwhile. */
static bool copy_out(struct live_reader *reader, const struct ring_datagram *datagram)
{
    const struct channel_public_map *map = &reader->ring.map;
    size_t first;
    const uint8_t *data = data_of(map, datagram, &first);
    ring_copy(reader->copy, data, first);
    ring_copy(reader->copy + first, (const uint8_t *)map->page + map->geometry.data_offset,
              datagram->length - first);
    return was_there(map, datagram->seq, datagram->position);
}

/* The datagram, as a copy, or with `in_place`, where it lies in one piece, as it lies there. */
static bool get(struct live_reader *reader, uint64_t seq, bool in_place, struct hf_datagram *ret)
{
    const struct channel_public_map *map = &reader->ring.map;
    struct ring_datagram datagram;
    size_t first;
    if (!read_descriptor(map, seq, &datagram))
        return false;
    const uint8_t *data = data_of(map, &datagram, &first);
    reader->lent_position = datagram.position;
    reader->is_lent = in_place && first == datagram.length;
    if (!reader->is_lent && !copy_out(reader, &datagram))
        return false;
    fill(&datagram, reader->is_lent ? data : reader->copy, ret);
    return true;
}

bool reader_ring_is_whole(struct live_reader *reader, const struct hf_datagram *datagram)
{
    if (!reader->is_lent || datagram->data == reader->copy)
        return true;
    return reader->ring.map.page &&
           was_there(&reader->ring.map, datagram->seq, reader->lent_position);
}

/* ---- what comes next ---- */

/* What is published, if that can be; else what was known before. */
static uint64_t find_end(const struct channel_public *page)
{
    uint64_t end = channel_public_published(page);
    return end <= INT64_MAX && end >= page->start_seq ? end : page->start_seq;
}

/* Of [from, end), the first one that will not be overwritten at once; `end` when none is left. Once
 * one is there, all behind it are. */
static uint64_t find_oldest(const struct channel_public_map *map, uint64_t from, uint64_t end)
{
    uint64_t low = from, high = end;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        uint64_t position = load_relaxed(descriptor_of(map, middle)->position);
        if (position <= UINT64_MAX / 2 && is_there(map, middle, position, map->geometry.slot_count))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static bool is_readable(const struct live_ring *ring)
{
    return ring->map.page && ring->map.size >= ring->map.geometry.total_size;
}

/* Everything before it is no reason to be woken: it was read, or lies in a ring that is retired. */
static uint64_t known_end(const struct live_reader *reader)
{
    const struct live_ring *ring = &reader->ring;
    const bool is_retired = is_readable(ring) && channel_public_is_retired(ring->map.page, NULL);
    return is_retired && reader->ring_end > reader->next_seq ? reader->ring_end : reader->next_seq;
}

static int sleep_until_more(struct live_reader *reader)
{
    return live_ring_fall_asleep(reader, READ_FOR_PUBLISHED, known_end(reader)) ? HF_NONE : MORE;
}

static int tell_lost(struct live_reader *reader, uint64_t end, struct hf_datagram *ret)
{
    *ret = (struct hf_datagram){
        .seq = reader->next_seq, .lost = end - reader->next_seq, .why = HF_LAPPED};
    reader->next_seq = end;
    return HF_LOST;
}

bool reader_ring_tell_rest(struct live_reader *reader, struct hf_datagram *ret)
{
    const struct live_ring *ring = &reader->ring;
    if (reader->ring_read == 0 || ring->pair == reader->ring_read ||
        reader->next_seq >= ring->former_end)
        return false;
    tell_lost(reader, ring->former_end, ret);
    return true;
}

/* A channel that records nothing begins at 0 again when everything of it has ended, and whoever
 * looks late may have missed a ring. Does this one, which wasn't looked at yet, not go on where the
 * one before ended? One that was retired is followed by its own successor, which may leave numbers
 * out. A number that is still waited for is nobody's yet. */
static bool is_begun_anew(const struct live_reader *reader, uint64_t start)
{
    const uint64_t end = reader->ring.former_end;
    return reader->ring_read != 0 && reader->next_seq <= end &&
           (start < end || (start > end && !reader->ring.former_is_final));
}

void reader_ring_follow_log(struct live_reader *reader)
{
    reader->ring_read = RING_OF_LOG;
    reader->ring_end = reader->ring.former_end;
}

static int begin_anew(struct live_reader *reader, uint64_t start, struct hf_datagram *ret)
{
    *ret = (struct hf_datagram){.seq = start, .why = HF_UNCOVERED};
    reader->next_seq = start;
    return HF_LOST;
}

static int next_newest(struct live_reader *reader, uint64_t end, struct hf_datagram *ret)
{
    uint64_t before = reader->next_seq;
    for (int i = 0; i < NEWEST_TRIES; i++) {
        if (get(reader, end - 1, true, ret)) {
            ret->lost = reader->returned_any ? end - 1 - before : 0;
            reader->next_seq = reader->ring_end = end;
            return HF_DATAGRAM;
        }
        end = find_end(reader->ring.map.page);
    }
    live_ring_pump(reader); /* takes the timer that has run out, and what the gate says */
    reader_link_wake_at(&reader->link, monotonic_add(monotonic_now(), NS_PER_MS));
    return HF_NONE;
}

static int next_in_order(struct live_reader *reader, uint64_t end, struct hf_datagram *ret)
{
    const struct channel_public_map *map = &reader->ring.map;
    if (get(reader, reader->next_seq, false, ret)) {
        if ((ret->flags & HF_FLAG_UNCOVERED) && reader->returned_any && !reader->uncovered_told) {
            reader->uncovered_told = true;
            *ret = (struct hf_datagram){.seq = reader->next_seq, .why = HF_UNCOVERED};
            return HF_LOST;
        }
        reader->uncovered_told = false;
        reader->next_seq++;
        return HF_DATAGRAM;
    }
    uint64_t oldest = find_oldest(map, reader->next_seq, end);
    /* One that can't be read must not keep us for ever. */
    return tell_lost(reader, oldest > reader->next_seq ? oldest : reader->next_seq + 1, ret);
}

/* The ring takes no more, and what is in it may be gone already. */
static int next_of_retired(struct live_reader *reader, uint64_t end, struct hf_datagram *ret)
{
    uint64_t retired_end = end;
    channel_public_is_retired(reader->ring.map.page, &retired_end);
    if (retired_end > reader->ring_end && retired_end <= INT64_MAX)
        reader->ring_end = retired_end;
    if (reader->base.mode == HF_NEW && reader->ring_end > reader->next_seq)
        return tell_lost(reader, reader->ring_end, ret);
    live_ring_look(reader); /* asks for another one */
    return sleep_until_more(reader);
}

static int next(struct live_reader *reader, struct hf_datagram *ret)
{
    const struct channel_public *page = reader->ring.map.page;
    if (!is_readable(&reader->ring))
        return sleep_until_more(reader);
    uint64_t start = page->start_seq, end = find_end(page);
    if (reader->begins_with_ring) {
        reader->begins_with_ring = false;
        reader->next_seq = reader->opened_seq = start;
    }
    if (reader->ring_read != reader->ring.pair) {
        const bool anew = is_begun_anew(reader, start);
        const uint64_t former_end = reader->ring.former_end;
        if (anew && reader->base.mode == HF_NEW && reader->next_seq < former_end)
            return tell_lost(reader, former_end, ret);
        reader->ring_read = reader->ring.pair;
        reader->ring_end = end;
        if (anew)
            return begin_anew(reader, start, ret);
    }
    reader->ring_end = end > reader->ring_end ? end : reader->ring_end;
    if (channel_public_is_retired(page, NULL))
        return next_of_retired(reader, end, ret);
    if (end <= reader->next_seq)
        return sleep_until_more(reader);
    if (reader->base.mode == HF_NEWEST)
        return next_newest(reader, end, ret);
    if (reader->next_seq < start)
        return tell_lost(reader, start, ret);
    return next_in_order(reader, end, ret);
}

int reader_ring_next(struct live_reader *reader, struct hf_datagram *ret)
{
    for (;;) {
        if (!live_reader_is_by_ring(reader))
            return LIVE_READER_CHANGED;
        int result = reader->ring.map.page ? have_copy(reader) : 0;
        if (result == 0)
            result = next(reader, ret);
        if (result == HF_DATAGRAM)
            reader->returned_any = true;
        if (result != MORE)
            return result;
    }
}
