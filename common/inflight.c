/* SPDX-License-Identifier: MIT */
/* Arming, publishing and recovering the in-flight batch. Called by the receiver, and once by a
 * successor before its receiver starts. Must never follow a pointer or believe a length found in
 * the shared array. */
#include "common/inflight.h"

#include <assert.h>
#include <string.h>

#include "common/inflight_delivered.h"
#include "common/monotonic.h"
#include "common/ring.h"
#include "common/ring_map.h"

#define load_relaxed(word)         atomic_load_explicit(&(word), memory_order_relaxed)
#define store_relaxed(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)

struct mmsghdr *inflight_arm(struct ring_writer *writer, uint32_t count)
{
    const struct ring *ring = writer->ring;
    struct inflight_batch *batch = ring->batch;
    uint32_t slot_size = ring->geometry.slot_size;
    uint32_t room = ring->geometry.segments_per_slot > 1 ? slot_size : ring->geometry.max_datagram;

    assert(count <= ring->geometry.slot_count);
    store_relaxed(batch->armed, 0);
    atomic_thread_fence(memory_order_release);
    store_relaxed(batch->armed_position, writer->position);
    store_relaxed(batch->count, count);
    for (uint32_t i = 0; i < count; i++) {
        struct mmsghdr *message = &batch->messages[i];
        batch->vectors[i] = (struct iovec){
            ring_map_at(&ring->data, writer->position + (uint64_t)i * slot_size), room};
        message->msg_hdr = (struct msghdr){.msg_name = batch->names[i],
                                           .msg_namelen = INFLIGHT_NAME_SIZE,
                                           .msg_iov = &batch->vectors[i],
                                           .msg_iovlen = 1,
                                           .msg_control = batch->control[i],
                                           .msg_controllen = INFLIGHT_CONTROL_SIZE};
        message->msg_len = INFLIGHT_SENTINEL;
    }
    store_relaxed(batch->armed_seq, writer->seq);
    atomic_store_explicit(&batch->armed, 1, memory_order_release);
    return batch->messages;
}

void inflight_note(struct ring_writer *writer, uint32_t count)
{
    struct inflight_batch *batch = writer->ring->batch;
    store_relaxed(batch->armed, 0);
    atomic_thread_fence(memory_order_release);
    store_relaxed(batch->armed_position, writer->position);
    store_relaxed(batch->count, count);
    store_relaxed(batch->armed_seq, writer->seq);
}

static void read_source(const uint8_t *name, struct ring_entry *entry)
{
    union socket_address source;
    memset(&source, 0, sizeof source);
    memcpy(&source, name,
           sizeof source.v6 < INFLIGHT_NAME_SIZE ? sizeof source.v6 : INFLIGHT_NAME_SIZE);
    entry->address[0] = entry->address[1] = 0;
    if (source.family == AF_INET6) {
        memcpy(entry->address, &source.v6.sin6_addr, sizeof source.v6.sin6_addr);
        entry->origin = (uint64_t)source.v6.sin6_scope_id << 32 |
                        (uint64_t)ntohs(source.v6.sin6_port) << 16 | 6;
    } else {
        memcpy(entry->address, &source.v4.sin_addr, sizeof source.v4.sin_addr);
        entry->origin = (uint64_t)ntohs(source.v4.sin_port) << 16 | 4;
    }
}

/* Append one message's datagrams from `index` on; returns how many. */
static uint32_t append_message(struct ring_writer *writer, uint32_t slot, uint32_t index,
                               uint64_t *ret_end)
{
    const struct ring *ring = writer->ring;
    const struct inflight_batch *batch = ring->batch;
    uint32_t slot_size = ring->geometry.slot_size;
    uint32_t full_length = inflight_length(batch, slot);
    uint32_t most = ring->geometry.max_datagram;
    uint32_t kept = full_length < slot_size ? full_length : slot_size;
    uint64_t position = writer->position + (uint64_t)slot * slot_size;
    struct inflight_control control;
    struct ring_entry entry;

    inflight_read_control(batch, slot, &control);
    read_source(batch->names[slot], &entry);
    entry.time_ns = control.time_ns ? control.time_ns : realtime_now_ns();
    entry.drops = control.has_drops ? control.drops : writer->drops;
    *ret_end = position + kept;

    uint32_t segment = control.segment_size ? control.segment_size : kept;
    if (ring->geometry.segments_per_slot == 1 || segment == 0 || segment >= kept) {
        entry.position = position;
        entry.length = kept < most ? kept : most;
        entry.cut = full_length - entry.length;
        ring_append(writer, index, &entry);
        return 1;
    }
    /* The run as a whole first: mirrored one by one, a datagram that starts behind the wrap would
     * be taken for one that was received at the front, and overwritten with what lies there. */
    ring_map_mirror(&ring->data, position, kept);
    uint32_t count = 0;
    for (uint32_t at = 0; at < kept && count < ring->geometry.segments_per_slot;
         at += segment, count++) {
        bool last =
            count + 1 ==
            ring->geometry.segments_per_slot; /* a kernel with longer runs: nothing goes unseen */
        uint32_t length = kept - at < segment || last ? kept - at : segment;
        entry.position = position + at;
        entry.length = length < segment ? length : segment;
        if (entry.length > most)
            entry.length = most;
        entry.cut = length - entry.length;
        ring_append(writer, index + count, &entry);
    }
    return count;
}

uint32_t inflight_publish(struct ring_writer *writer, uint32_t delivered)
{
    uint32_t count = 0;
    uint64_t end = writer->position;
    assert(delivered <= writer->ring->geometry.slot_count);
    for (uint32_t slot = 0; slot < delivered; slot++)
        count += append_message(writer, slot, count, &end);
    ring_publish(writer, count, end);
    return count;
}

/* The ring's first datagrams came from a socket that is gone, and so is where its counter stood
 * before them. */
static void begin_at_first(struct ring_writer *writer)
{
    const struct channel_page *page = writer->ring->page;
    struct inflight_control control;
    inflight_read_control(writer->ring->batch, 0, &control);
    if (writer->seq == page->public.start_seq &&
        writer->seq < load_relaxed(page->private.drops_from_seq))
        writer->drops = control.drops;
}

uint32_t inflight_recover(struct ring_writer *writer)
{
    const struct inflight_batch *batch = writer->ring->batch;

    if (atomic_load_explicit(&batch->armed, memory_order_acquire) != 1 ||
        load_relaxed(batch->armed_seq) != writer->seq ||
        load_relaxed(batch->armed_position) != writer->position)
        return 0;
    uint32_t delivered = inflight_delivered(batch, &writer->ring->geometry);
    if (delivered == 0)
        return 0;
    begin_at_first(writer);
    ring_reserve(writer, delivered);
    return inflight_publish(writer, delivered);
}
