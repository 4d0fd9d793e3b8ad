/* SPDX-License-Identifier: MIT */
/* The datagram ring's writer and readers. Called by the receiver, which writes, and by the
 * recorder, the relay and the decimator, which read. Never logs, never allocates; a reader must
 * never take bytes for whole that the writer has overtaken. */
#include "common/ring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_memory.h"
#include "common/channel_page.h"
#include "common/inflight_batch.h"
#include "common/local_address.h"
#include "common/memory_page.h"
#include "common/ring_map.h"

#define load_relaxed(word)         atomic_load_explicit(&(word), memory_order_relaxed)
#define store_relaxed(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)

enum { MAPPED_DOUBLE = 1, MAPPED_MIRROR = 2 };

static bool is_at_least(int fd, uint64_t size)
{
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_size >= 0 && (uint64_t)status.st_size >= size;
}

int ring_attach(struct ring *ring, const struct channel_memory *memory,
                const struct channel_geometry *geometry, enum ring_mapping_wanted wanted)
{
    *ring = (struct ring){.geometry = *geometry};
    /* Memory made for other settings may be shorter: touching what is beyond its end would be
     * SIGBUS. */
    if (!is_at_least(memory->ring, geometry->total_size) ||
        !is_at_least(memory->private_part, CHANNEL_PRIVATE_SIZE))
        return -EBADMSG;
    int result = channel_memory_map(memory, geometry, &ring->page);
    if (result < 0)
        return result;
    ring->batch = &ring->page->private.batch;
    ring->descriptors = channel_page_descriptors(ring->page, geometry);

    ring->wanted = wanted;
    result = ring_map_open(memory->ring, geometry->data_offset, geometry->data_capacity,
                           geometry->tail, wanted, &ring->data);
    if (result < 0)
        channel_memory_unmap(&ring->page, geometry);
    return result;
}

/* What the kernel may have put behind the end for a predecessor with a mirror, in the slot of the
 * batch that lies across it. Published datagrams are in both places already. */
static int bring_to_front(const struct ring *ring, int fd)
{
    const struct channel_geometry *geometry = &ring->geometry;
    uint64_t position = load_relaxed(ring->batch->armed_position);
    uint32_t count = load_relaxed(ring->batch->count);
    if (load_relaxed(ring->batch->armed) != 1 || count > geometry->slot_count)
        return 0;
    for (uint32_t i = 0; i < count; i++, position += geometry->slot_size) {
        uint64_t end = position % geometry->data_capacity + geometry->slot_size;
        if (end <= geometry->data_capacity)
            continue;
        size_t size = end - geometry->data_capacity;
        if (size > geometry->tail)
            return -EBADMSG;
        ssize_t length = pread(fd, ring->data.base, size,
                               (off_t)(geometry->data_offset + geometry->data_capacity));
        if (length != (ssize_t)size)
            return length < 0 ? -errno : -EBADMSG;
    }
    return 0;
}

int ring_settle(struct ring *ring, int fd)
{
    uint32_t before = atomic_load(&ring->page->private.mapping);
    int result = 0;
    if (before != MAPPED_MIRROR)
        ring_map_refresh_tail(&ring->data);
    else if (ring->data.doubled)
        result = bring_to_front(ring, fd);
    if (result < 0)
        return result;
    if (!ring->data.doubled && ring->wanted != RING_MAPPING_MIRROR)
        atomic_store(&ring->page->private.mapping_fell_back, 1);
    /* Last: who dies before leaves everything as it was for the one after. */
    atomic_store(&ring->page->private.mapping, ring->data.doubled ? MAPPED_DOUBLE : MAPPED_MIRROR);
    return 0;
}

void ring_detach(struct ring *ring)
{
    ring_map_close(&ring->data);
    channel_memory_unmap(&ring->page, &ring->geometry);
}

static struct ring_descriptor *descriptor_of(const struct ring *ring, uint64_t seq)
{
    return &ring->descriptors[seq % ring->geometry.descriptor_count];
}

/* ---- readers ---- */

static bool still_there(const struct ring *ring, uint64_t seq, uint64_t position)
{
    return position + ring->geometry.data_capacity >=
               load_relaxed(ring->page->public.reserved_position) &&
           seq + ring->geometry.descriptor_count >= load_relaxed(ring->page->public.reserved_seq);
}

/* The descriptor itself is a copy that may have been overwritten meanwhile: ask before using its
 * length. */
static bool read_descriptor(const struct ring *ring, uint64_t seq, struct ring_datagram *ret)
{
    ring_descriptor_load(descriptor_of(ring, seq), seq, ret);
    return ring_intact(ring, ret) && ret->length <= ring->geometry.slot_size;
}

bool ring_peek(const struct ring *ring, uint64_t seq, struct ring_datagram *ret)
{
    if (!read_descriptor(ring, seq, ret))
        return false;
    ret->data = ring_map_at(&ring->data, ret->position);
    return true;
}

bool ring_peek_newest(struct channel_page *page, const struct channel_geometry *geometry,
                      struct ring_datagram *ret)
{
    const struct ring ring = {.page = page,
                              .descriptors = channel_page_descriptors(page, geometry),
                              .geometry = *geometry};
    uint64_t published = ring_published(&ring), reserved = load_relaxed(page->public.reserved_seq);
    if (published <= page->public.start_seq || published > INT64_MAX || published > reserved ||
        reserved - published > geometry->descriptor_count)
        return false;
    return read_descriptor(&ring, published - 1, ret) && ring_family_is_known(ret->family) &&
           ret->time_ns > 0 && ret->time_ns <= INT64_MAX;
}

bool ring_intact(const struct ring *ring, const struct ring_datagram *datagram)
{
    /* Pairs with the fence in ring_reserve(): if any byte of the copy came from a later lap, this
     * sees its reservation. */
    atomic_thread_fence(memory_order_acquire);
    return still_there(ring, datagram->seq, datagram->position);
}

#if defined(__SANITIZE_THREAD__)
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#endif

void ring_copy(void *to, const void *from, size_t length)
{
    /* The one intended race: like a seqlock's reader, the copy is thrown away if the writer
     * overtook it. */
#if defined(__SANITIZE_THREAD__)
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
#endif
    memcpy(to, from, length);
#if defined(__SANITIZE_THREAD__)
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

uint64_t ring_oldest(const struct ring *ring, uint64_t from)
{
    uint64_t low = from, high = ring_published(ring);
    /* Positions grow with the sequence number, so "still there" changes once from no to yes. A
     * batch of slack keeps the reader from being overtaken again by the reservation that follows at
     * once. */
    uint64_t slack = (uint64_t)ring->geometry.slot_count * ring->geometry.slot_size;
    uint64_t seq_slack = (uint64_t)ring->geometry.slot_count * ring->geometry.segments_per_slot;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        uint64_t position = load_relaxed(descriptor_of(ring, middle)->position);
        bool there = middle + ring->geometry.descriptor_count >=
                         load_relaxed(ring->page->public.reserved_seq) + seq_slack &&
                     position + ring->geometry.data_capacity >=
                         load_relaxed(ring->page->public.reserved_position) + slack;
        if (there)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void ring_set_flag(const struct ring *ring, uint64_t seq, uint32_t flag)
{
    atomic_fetch_or(&descriptor_of(ring, seq)->origin, (uint64_t)(flag & 0xff) << 8);
}

void ring_local_words(const union socket_address *source, uint64_t ret_address[2],
                      uint64_t *ret_origin)
{
    uint64_t rest;
    local_address_pack(&source->local, ret_address, &rest);
    *ret_origin = rest << 16 | RING_FAMILY_LOCAL;
}

void ring_local_source(const uint64_t address[2], uint64_t origin, union socket_address *ret)
{
    memset(ret, 0, sizeof *ret);
    local_address_unpack(address, origin >> 16, &ret->local);
}

void ring_source(const struct ring_datagram *datagram, union socket_address *ret)
{
    memset(ret, 0, sizeof *ret);
    if (datagram->family == 4) {
        ret->v4.sin_family = AF_INET;
        ret->v4.sin_port = htons(datagram->port);
        memcpy(&ret->v4.sin_addr, datagram->address, sizeof ret->v4.sin_addr);
    } else if (datagram->family == RING_FAMILY_LOCAL) {
        ring_local_source(datagram->address,
                          (uint64_t)datagram->scope << 32 | (uint64_t)datagram->port << 16, ret);
    } else {
        ret->v6.sin6_family = AF_INET6;
        ret->v6.sin6_port = htons(datagram->port);
        ret->v6.sin6_scope_id = datagram->scope;
        memcpy(&ret->v6.sin6_addr, datagram->address, sizeof ret->v6.sin6_addr);
    }
}

/* ---- the writer ---- */

static uint64_t align_up(uint64_t position)
{
    return (position + CACHE_LINE - 1) & ~(uint64_t)(CACHE_LINE - 1);
}

/* Touch these pages so that no later write into them can fault. Not by MADV_POPULATE_WRITE: that
 * takes the lock of the whole address space, which another thread may hold while it waits for a
 * disk; a fault needs only this mapping's. */
static void populate(uint8_t *from, size_t length)
{
    size_t page = memory_page_size();
    for (size_t at = 0; at < length; at += page) {
        volatile uint8_t *byte = from + at;
        /* cppcheck-suppress selfAssignment ; the write matters, and nobody else writes here */
        *byte = *byte;
    }
}

/* Only an armed batch was ever written to. A predecessor that had reserved more and died before it
 * armed would make its successor's datagrams look lapped: after ring_rewind its reservation is a
 * whole ring ahead. */
static void forget_reservation(struct ring_writer *writer)
{
    const struct ring *ring = writer->ring;
    const struct channel_geometry *geometry = &ring->geometry;
    uint64_t count = load_relaxed(ring->batch->count);
    uint64_t position = load_relaxed(ring->batch->armed_position) + count * geometry->slot_size;
    uint64_t seq = load_relaxed(ring->batch->armed_seq) + count * geometry->segments_per_slot;

    store_relaxed(ring->page->public.reserved_position,
                  position > writer->position ? position : writer->position);
    store_relaxed(ring->page->public.reserved_seq, seq > writer->seq ? seq : writer->seq);
}

/* What comes next is from another socket than what came before. */
static void begin_drops(struct ring_writer *writer)
{
    const struct channel_private *private = &writer->ring->page->private;
    if (writer->seq == load_relaxed(private->drops_from_seq))
        writer->drops = load_relaxed(private->drops_base);
}

void ring_writer_open(struct ring_writer *writer, struct ring *ring)
{
    const struct channel_page *page = ring->page;
    *writer = (struct ring_writer){
        .ring = ring, .seq = ring_published(ring), .position = page->public.start_position};
    if (writer->seq != page->public.start_seq) {
        const struct ring_descriptor *last = descriptor_of(ring, writer->seq - 1);
        uint64_t length = load_relaxed(last->length_cut) >> 32;
        writer->position = align_up(load_relaxed(last->position) + length);
        writer->bytes_total = channel_page_bytes(page, &ring->geometry, writer->seq);
        writer->drops = (uint32_t)(load_relaxed(last->drops) >> 32);
    }
    begin_drops(writer);
    /* A predecessor may have gone back to the start of the memory (ring_rewind) without publishing
     * since. */
    uint64_t armed = load_relaxed(ring->batch->armed_position);
    if (armed > writer->position)
        writer->position = armed;
    writer->populated_start = memory_page_floor(writer->position % ring->geometry.data_capacity);
    writer->populated_end = writer->populated_start;
    forget_reservation(writer);
    /* Addresses and control data are written by the kernel only: no page fault may happen there
     * either. */
    populate((uint8_t *)ring->batch, sizeof *ring->batch);
}

static void populate_until(struct ring_writer *writer, uint64_t *mark, uint64_t end)
{
    const struct ring_map *map = &writer->ring->data;

    end = memory_page_ceil(end);
    if (end > map->mapped_size)
        end = map->mapped_size;
    if (end <= *mark)
        return;
    populate(map->base + *mark, end - *mark);
    *mark = end;
}

/* Populating goes on just ahead of the writer, once per page and process: kernels lose a datagram
 * whose buffer page they would have to fault in for a process that is just being killed. A
 * successor starts anywhere in the ring, so there are two marks: from its first page upwards, and
 * from the front upwards. */
static void populate_ahead(struct ring_writer *writer, uint64_t slots_bytes)
{
    const struct ring_map *map = &writer->ring->data;
    uint64_t from = writer->position % map->capacity;
    uint64_t end = from + slots_bytes; /* a batch is never more than a quarter of the capacity */
    uint64_t *mark =
        from >= writer->populated_start ? &writer->populated_end : &writer->populated_front;

    if (end <= map->capacity) {
        populate_until(writer, mark, end);
        return;
    }
    /* A slot that starts below the capacity may run on above it; the next one starts at the front
     * again. */
    populate_until(writer, mark, map->capacity + map->tail);
    populate_until(writer, &writer->populated_front, end - map->capacity);
}

void ring_reserve(struct ring_writer *writer, uint32_t slots)
{
    const struct ring *ring = writer->ring;
    struct channel_page *page = ring->page;
    uint64_t bytes = (uint64_t)slots * ring->geometry.slot_size;
    uint64_t position = writer->position + bytes;
    uint64_t seq = writer->seq + (uint64_t)slots * ring->geometry.segments_per_slot;

    populate_ahead(writer, bytes);
    /* Never backwards: an earlier, longer reservation may have been written to already. */
    if (position > load_relaxed(page->public.reserved_position))
        store_relaxed(page->public.reserved_position, position);
    if (seq > load_relaxed(page->public.reserved_seq))
        store_relaxed(page->public.reserved_seq, seq);
    /* Before the first byte is overwritten: see ring_intact(). */
    atomic_thread_fence(memory_order_seq_cst);
}

bool ring_reserve_would_lap(const struct ring_writer *writer, uint32_t slots, uint64_t keep_seq)
{
    const struct ring *ring = writer->ring;
    if (keep_seq >= writer->seq)
        return false;
    uint64_t oldest = load_relaxed(descriptor_of(ring, keep_seq)->position);
    return writer->position + (uint64_t)slots * ring->geometry.slot_size >
               oldest + ring->geometry.data_capacity ||
           writer->seq + (uint64_t)slots * ring->geometry.segments_per_slot >
               keep_seq + ring->geometry.descriptor_count;
}

void ring_rewind(struct ring_writer *writer)
{
    if (writer->position > RING_REWIND_MAX)
        return;
    uint64_t capacity = writer->ring->geometry.data_capacity;
    writer->position = (writer->position + capacity - 1) / capacity * capacity;
}

void ring_append(struct ring_writer *writer, uint32_t index, const struct ring_entry *entry)
{
    struct ring_descriptor *descriptor = descriptor_of(writer->ring, writer->seq + index);
    /* Modulo 2^32: the kernel's counter wraps. "Negative": it was queued before the counter stood
     * where this ring began, and what was dropped until then has been counted. */
    uint32_t lost_before = entry->drops - writer->drops;
    if (lost_before > INT32_MAX)
        lost_before = 0;
    else
        writer->drops = entry->drops;
    writer->bytes_total += entry->length;
    ring_map_mirror(&writer->ring->data, entry->position, entry->length);
    store_relaxed(descriptor->position, entry->position);
    store_relaxed(descriptor->time_ns, entry->time_ns);
    store_relaxed(descriptor->bytes_total, writer->bytes_total);
    store_relaxed(descriptor->length_cut, (uint64_t)entry->length << 32 | entry->cut);
    store_relaxed(descriptor->drops, (uint64_t)writer->drops << 32 | lost_before);
    store_relaxed(descriptor->address[0], entry->address[0]);
    store_relaxed(descriptor->address[1], entry->address[1]);
    uint64_t gap_before = load_relaxed(writer->ring->page->private.gap_before);
    uint64_t flags = writer->seq + index + 1 == gap_before ? DATAGRAM_NOT_COVERED : 0;
    store_relaxed(descriptor->origin, entry->origin | flags << 8);
}

void ring_publish(struct ring_writer *writer, uint32_t count, uint64_t next_position)
{
    assert(next_position >= writer->position);
    writer->seq += count;
    writer->position = align_up(next_position);
    begin_drops(writer);
    atomic_store_explicit(&writer->ring->page->public.published, writer->seq, memory_order_release);
}
