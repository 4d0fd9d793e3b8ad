/* SPDX-License-Identifier: MIT */
/* Arming, publishing and recovering the in-flight batch. Called by the receiver, and once by a
 * successor before its receiver starts. Must never follow a pointer or believe a length found in
 * the shared array. */
#include "common/inflight.h"

#include <assert.h>
#include <netinet/udp.h>
#include <string.h>
#include <time.h>

#include "common/monotonic.h"
#include "common/ring.h"
#include "common/ring_map.h"

#define load_relaxed(word)         atomic_load_explicit(&(word), memory_order_relaxed)
#define store_relaxed(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)

_Static_assert(sizeof(struct sockaddr_in6) <= INFLIGHT_NAME_SIZE, "an IPv6 source address fits");
_Static_assert(INFLIGHT_CONTROL_SIZE >=
                   CMSG_SPACE(sizeof(struct timespec)) + 2 * CMSG_SPACE(sizeof(int)),
               "all three control messages fit");

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

/* What one message's control data says. The buffer is shared memory: every length is bounded by
 * what fits. */
struct control_values {
    uint64_t time_ns;
    uint32_t drops;
    bool has_drops;
    uint32_t segment_size; /* 0 = not coalesced */
};

static void read_control(const uint8_t *control, size_t length, struct control_values *ret)
{
    *ret = (struct control_values){0};
    if (length > INFLIGHT_CONTROL_SIZE)
        length = INFLIGHT_CONTROL_SIZE;
    for (size_t at = 0; at + sizeof(struct cmsghdr) <= length;) {
        struct cmsghdr header;
        memcpy(&header, control + at, sizeof header);
        if (header.cmsg_len < CMSG_LEN(0) || header.cmsg_len > length - at)
            return;
        const uint8_t *value = control + at + CMSG_LEN(0);
        size_t size = header.cmsg_len - CMSG_LEN(0);
        if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_TIMESTAMPNS &&
            size >= sizeof(struct timespec)) {
            struct timespec time;
            memcpy(&time, value, sizeof time);
            if (time.tv_sec >= 0 && time.tv_nsec >= 0 && time.tv_nsec < (long)NS_PER_S)
                ret->time_ns = timespec_ns(&time);
        } else if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SO_RXQ_OVFL &&
                   size >= sizeof(uint32_t)) {
            memcpy(&ret->drops, value, sizeof ret->drops);
            ret->has_drops = true;
        } else if (header.cmsg_level == SOL_UDP && header.cmsg_type == UDP_GRO &&
                   size >= sizeof(uint16_t)) {
            /* the kernel writes an int; its low half is the segment size on every byte order it
             * supports here */
            int segment_size = 0;
            memcpy(&segment_size, value, size < sizeof segment_size ? size : sizeof segment_size);
            if (segment_size > 0 && segment_size <= 65535)
                ret->segment_size = (uint32_t)segment_size;
        }
        at += CMSG_SPACE(size);
    }
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
    uint32_t full_length = *(const volatile uint32_t *)&batch->messages[slot].msg_len;
    uint32_t most = ring->geometry.max_datagram;
    uint32_t kept = full_length < slot_size ? full_length : slot_size;
    uint64_t position = writer->position + (uint64_t)slot * slot_size;
    struct control_values control;
    struct ring_entry entry;

    read_control(batch->control[slot], batch->messages[slot].msg_hdr.msg_controllen, &control);
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

/* The kernel fills from the front; the first sentinel still there ends what it delivered. */
static uint32_t count_delivered(const struct inflight_batch *batch,
                                const struct channel_geometry *geometry)
{
    uint32_t count = load_relaxed(batch->count);
    uint32_t delivered = 0;
    while (delivered < count && delivered < geometry->slot_count &&
           *(const volatile uint32_t *)&batch->messages[delivered].msg_len != INFLIGHT_SENTINEL)
        delivered++;
    return delivered;
}

/* What append_message() would make of it. */
static uint32_t count_datagrams(const struct inflight_batch *batch,
                                const struct channel_geometry *geometry, uint32_t slot)
{
    uint32_t length = *(const volatile uint32_t *)&batch->messages[slot].msg_len;
    uint32_t kept = length < geometry->slot_size ? length : geometry->slot_size;
    struct control_values control;
    read_control(batch->control[slot], batch->messages[slot].msg_hdr.msg_controllen, &control);
    uint32_t segment = control.segment_size;
    if (geometry->segments_per_slot == 1 || segment == 0 || segment >= kept)
        return 1;
    uint32_t count = (kept + segment - 1) / segment;
    return count < geometry->segments_per_slot ? count : geometry->segments_per_slot;
}

uint32_t inflight_unpublished(const struct channel_page *page,
                              const struct channel_geometry *geometry)
{
    const struct inflight_batch *batch = &page->private.batch;
    if (atomic_load_explicit(&batch->armed, memory_order_acquire) != 1 ||
        load_relaxed(batch->armed_seq) !=
            atomic_load_explicit(&page->public.published, memory_order_acquire))
        return 0;
    uint32_t messages = count_delivered(batch, geometry), count = 0;
    for (uint32_t slot = 0; slot < messages; slot++)
        count += count_datagrams(batch, geometry, slot);
    return count;
}

uint32_t inflight_recover(struct ring_writer *writer)
{
    const struct inflight_batch *batch = writer->ring->batch;

    if (atomic_load_explicit(&batch->armed, memory_order_acquire) != 1 ||
        load_relaxed(batch->armed_seq) != writer->seq ||
        load_relaxed(batch->armed_position) != writer->position)
        return 0;
    uint32_t delivered = count_delivered(batch, &writer->ring->geometry);
    if (delivered == 0)
        return 0;
    ring_reserve(writer, delivered);
    return inflight_publish(writer, delivered);
}
