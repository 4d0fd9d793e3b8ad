/* SPDX-License-Identifier: MIT */
/* Reads a batch that the kernel has filled, whole or in part. Called by inflight.c and by the
 * page's check. Must never follow a pointer or believe a length found in the shared array. */
#include "common/inflight_delivered.h"

#include <netinet/udp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/monotonic.h"

_Static_assert(sizeof(struct sockaddr_in6) <= INFLIGHT_NAME_SIZE, "an IPv6 source address fits");
_Static_assert(sizeof(struct sockaddr_in6) != INFLIGHT_NAME_SIZE,
               "whether the kernel has written an address can be told by its length");
_Static_assert(INFLIGHT_CONTROL_SIZE >=
                   CMSG_SPACE(sizeof(struct timespec)) + 2 * CMSG_SPACE(sizeof(int)),
               "all three control messages fit");

/* The kernel writes it. */
static uint32_t message_length(const struct mmsghdr *message)
{
    return *(const volatile uint32_t *)&message->msg_len;
}

/* Two words say so, which no single damage changes both: the kernel has replaced the address's
 * length, and then the sentinel. The sentinel's upper half is all ones, that of a length, which UDP
 * keeps below 65,536, all zeros; one bit more or less makes neither of the other. */
static bool is_delivered(const struct mmsghdr *message)
{
    uint32_t upper = message_length(message) >> 16;
    return (upper & (upper - 1)) == 0 && message->msg_hdr.msg_namelen != INFLIGHT_NAME_SIZE;
}

uint32_t inflight_delivered(const struct inflight_batch *batch,
                            const struct channel_geometry *geometry)
{
    uint32_t count = atomic_load_explicit(&batch->count, memory_order_relaxed);
    uint32_t delivered = 0;
    while (delivered < count && delivered < geometry->slot_count &&
           is_delivered(&batch->messages[delivered]))
        delivered++;
    return delivered;
}

uint32_t inflight_length(const struct inflight_batch *batch, uint32_t slot)
{
    return message_length(&batch->messages[slot]) & 0xffff;
}

void inflight_read_control(const struct inflight_batch *batch, uint32_t slot,
                           struct inflight_control *ret)
{
    const uint8_t *control = batch->control[slot];
    size_t length = batch->messages[slot].msg_hdr.msg_controllen;
    *ret = (struct inflight_control){0};
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

/* What inflight.c would make of one message. */
static uint32_t count_datagrams(const struct inflight_batch *batch,
                                const struct channel_geometry *geometry, uint32_t slot)
{
    uint32_t length = inflight_length(batch, slot);
    uint32_t kept = length < geometry->slot_size ? length : geometry->slot_size;
    struct inflight_control control;
    inflight_read_control(batch, slot, &control);
    uint32_t segment = control.segment_size;
    if (geometry->segments_per_slot == 1 || segment == 0 || segment >= kept)
        return 1;
    uint32_t count = (kept + segment - 1) / segment;
    return count < geometry->segments_per_slot ? count : geometry->segments_per_slot;
}

uint32_t inflight_datagrams(const struct inflight_batch *batch,
                            const struct channel_geometry *geometry, uint32_t messages)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < messages; slot++)
        count += count_datagrams(batch, geometry, slot);
    return count;
}

/* How many messages of them. */
static uint32_t unpublished_messages(const struct channel_page *page,
                                     const struct channel_geometry *geometry)
{
    const struct inflight_batch *batch = &page->private.batch;
    if (atomic_load_explicit(&batch->armed, memory_order_acquire) != 1 ||
        atomic_load_explicit(&batch->armed_seq, memory_order_relaxed) !=
            atomic_load_explicit(&page->public.published, memory_order_acquire))
        return 0;
    return inflight_delivered(batch, geometry);
}

uint32_t inflight_unpublished(const struct channel_page *page,
                              const struct channel_geometry *geometry)
{
    return inflight_datagrams(&page->private.batch, geometry, unpublished_messages(page, geometry));
}

uint32_t inflight_unpublished_drops(const struct channel_page *page,
                                    const struct channel_geometry *geometry)
{
    uint64_t published = atomic_load_explicit(&page->public.published, memory_order_relaxed);
    uint32_t messages = unpublished_messages(page, geometry);
    uint32_t before = atomic_load_explicit(&page->private.drops_base, memory_order_relaxed);
    struct inflight_control control;
    if (messages == 0)
        return 0;
    inflight_read_control(&page->private.batch, messages - 1, &control);
    if (published > page->public.start_seq &&
        published != atomic_load_explicit(&page->private.drops_from_seq, memory_order_relaxed)) {
        const struct ring_descriptor *last = channel_page_descriptor(page, geometry, published - 1);
        before = (uint32_t)(atomic_load_explicit(&last->drops, memory_order_relaxed) >> 32);
    }
    return control.has_drops && control.drops - before <= INT32_MAX ? control.drops - before : 0;
}
