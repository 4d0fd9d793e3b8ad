/* SPDX-License-Identifier: MIT */
/* The datagram ring: one writer (the receiver), any number of readers, each datagram known by its
 * sequence number. Memory layout in channel_page.h. A reader never holds the writer back unless the
 * writer asks it (on_full = "wait"): it finds out that it was lapped by asking ring_intact() after
 * it has copied. */
#ifndef HOLDFAST_COMMON_RING_H
#define HOLDFAST_COMMON_RING_H

#include "common/channel_memory.h"
#include "common/channel_page.h"
#include "common/inflight_batch.h"
#include "common/ring_map.h"

struct ring {
    struct channel_page *page; /* everything but the data */
    struct ring_descriptor *descriptors;
    struct inflight_batch *batch;
    struct channel_geometry geometry;
    struct ring_map data;
    enum ring_mapping_wanted wanted;
};

/* Map a channel's memory of this geometry. Nothing is checked yet: see channel_page_check(). 0 or
 * -errno: -EBADMSG when it is too small for the geometry; on
 * -ENOTSUP ring->data.reason says why `double` can't be had. */
int ring_attach(struct ring *ring, const struct channel_memory *memory,
                const struct channel_geometry *geometry, enum ring_mapping_wanted wanted);
/* The predecessor may have mapped it in another way: its bytes beyond the end are brought to where
 * this mapping has them. After the check, before anything is read or published. fd: of the public
 * memory. 0 or -errno. */
int ring_settle(struct ring *ring, int fd);
void ring_detach(struct ring *ring);

/* A datagram as a reader sees it. */
struct ring_datagram {
    uint64_t seq;
    uint64_t position;
    uint64_t time_ns;
    /* Contiguous, in the ring: may be overwritten at any time by a writer that laps. */
    const uint8_t *data;
    uint32_t length; /* never more than the slot size */
    uint32_t cut;
    uint32_t lost_before;
    uint32_t flags;
    uint64_t address[2];
    uint32_t scope;
    uint16_t port;
    uint8_t family; /* 4, 6, or RING_FAMILY_LOCAL */
};

/* What a descriptor says, which may be overwritten meanwhile: *ret counts only if the datagram was
 * there after that, and its length and family are to be looked at. `data` is NULL. */
static inline void ring_descriptor_load(const struct ring_descriptor *descriptor, uint64_t seq,
                                        struct ring_datagram *ret)
{
    uint64_t length_cut = atomic_load_explicit(&descriptor->length_cut, memory_order_relaxed);
    uint64_t origin = atomic_load_explicit(&descriptor->origin, memory_order_relaxed);
    *ret = (struct ring_datagram){
        .seq = seq,
        .position = atomic_load_explicit(&descriptor->position, memory_order_relaxed),
        .time_ns = atomic_load_explicit(&descriptor->time_ns, memory_order_relaxed),
        .length = (uint32_t)(length_cut >> 32),
        .cut = (uint32_t)length_cut,
        .lost_before = (uint32_t)atomic_load_explicit(&descriptor->drops, memory_order_relaxed),
        .address = {atomic_load_explicit(&descriptor->address[0], memory_order_relaxed),
                    atomic_load_explicit(&descriptor->address[1], memory_order_relaxed)},
        .scope = (uint32_t)(origin >> 32),
        .port = (uint16_t)(origin >> 16),
        .flags = (uint8_t)(origin >> 8),
        .family = (uint8_t)origin,
    };
}

/* Look at the datagram `seq`, which must be < published. false when it was overwritten already. */
bool ring_peek(const struct ring *ring, uint64_t seq, struct ring_datagram *ret);

/* The newest datagram but for its bytes (data is NULL), for who has mapped the page alone.
 * Everything in the page may be nonsense: what can't be true is not told, and no index comes from
 * it unchecked. false when the ring has none, or it can't be said. */
bool ring_peek_newest(struct channel_page *page, const struct channel_geometry *geometry,
                      struct ring_datagram *ret);

/* After copying from datagram->data: was it whole all the time? */
bool ring_intact(const struct ring *ring, const struct ring_datagram *datagram);

/* Copy for a reader that may be lapped meanwhile; the result counts only if ring_intact() says so
 * afterwards. */
void ring_copy(void *to, const void *from, size_t length);

/* The oldest datagram at or after `from` that the writer will not overwrite at once; `published`
 * when none is left. */
uint64_t ring_oldest(const struct ring *ring, uint64_t from);

static inline uint64_t ring_published(const struct ring *ring)
{
    return atomic_load_explicit(&ring->page->public.published, memory_order_acquire);
}

void ring_set_flag(const struct ring *ring, uint64_t seq, uint32_t flag);

void ring_source(const struct ring_datagram *datagram, union socket_address *ret);

/* A publisher's address as a ring_entry has it, and back. A name keeps 14 of its 15 bytes, see
 * struct ring_descriptor; what comes back is a sound address, whatever lies there. */
void ring_local_words(const union socket_address *source, uint64_t ret_address[2],
                      uint64_t *ret_origin);
void ring_local_source(const uint64_t address[2], uint64_t origin, union socket_address *ret);

struct ring_writer {
    struct ring *ring;
    uint64_t seq;      /* next number to give == published */
    uint64_t position; /* where the next datagram goes */
    uint64_t bytes_total;
    uint32_t drops; /* the kernel's drop counter as of the last datagram */
    /* Offsets from the map's base: [start, end) and [0, front) are known to be populated in this
     * process. */
    uint64_t populated_start;
    uint64_t populated_end;
    uint64_t populated_front;
};

/* Continue where `published` stands. The page must have passed channel_page_check(). */
void ring_writer_open(struct ring_writer *writer, struct ring *ring);

/* Claim room for `slots` messages: tells readers what is about to be overwritten, and populates the
 * pages. */
void ring_reserve(struct ring_writer *writer, uint32_t slots);

/* Would reserving `slots` overwrite a datagram >= keep_seq? For on_full = "wait". */
bool ring_reserve_would_lap(const struct ring_writer *writer, uint32_t slots, uint64_t keep_seq);

/* Go back to the start of the memory, so that a trickle stays in warm pages. Only when no reader is
 * behind. Positions never shrink: each time costs what is left of the lap, which for a ring of 64
 * GiB at 1 GB/s would use up all numbers in 30 hours. So beyond RING_REWIND_MAX it does nothing. */
#define RING_REWIND_MAX (1ull << 62)
void ring_rewind(struct ring_writer *writer);

/* How far into the ring the next datagram goes, in bytes. */
static inline uint64_t ring_writer_offset(const struct ring_writer *writer)
{
    return writer->position % writer->ring->geometry.data_capacity;
}

/* One datagram for ring_append(). */
struct ring_entry {
    uint64_t position;
    uint64_t time_ns;
    uint32_t length;
    uint32_t cut;
    uint32_t drops;
    uint64_t address[2];
    uint64_t origin;
};

/* Write the descriptor of the datagram writer->seq + index; it exists for nobody before
 * ring_publish(). */
void ring_append(struct ring_writer *writer, uint32_t index, const struct ring_entry *entry);

/* Make the first `count` appended datagrams visible; the next one goes to `next_position` or after
 * it. */
void ring_publish(struct ring_writer *writer, uint32_t count, uint64_t next_position);

#endif
