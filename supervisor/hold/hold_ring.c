/* SPDX-License-Identifier: MIT */
/* Makes ring memory and counts the kernel's drops in front of it. Called when a channel opens and
 * when its ring is adopted. Must never trust what is in the ring: it only writes a fresh page
 * before the first worker. */
#include "supervisor/hold/hold_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/channel_memory.h"
#include "common/channel_page.h"
#include "common/fd.h"
#include "common/huge_pages.h"
#include "common/inflight_delivered.h"
#include "common/memory_page.h"
#include "common/monotonic.h"
#include "supervisor/hold/hold_lend.h"

#define MARK_TRIES 100

uint64_t hold_ring_number(const struct hold *hold)
{
    if (!hold->page || hold->ring < 0 || hold->old_ring >= 0)
        return 0;
    return hold->page->public.pair ? hold->page->public.pair : 1;
}

int hold_ring_lend(const struct hold *hold)
{
    return hold_ring_number(hold) == 0 ? -ENOENT : hold_lend_read_only(hold->ring);
}

/* Page, batch and descriptors: what the ledger is read from. The data stays unmapped here. */
int hold_ring_map(struct hold *hold)
{
    const struct channel_memory memory = {hold->ring, hold->private_part};
    hold_lend_protect(hold->ring);
    return channel_memory_map(&memory, &hold->geometry, &hold->page);
}

/* ---- the kernel's queue, and what it dropped ---- */

static bool read_memory(const struct hold *hold, uint32_t about[SK_MEMINFO_VARS])
{
    socklen_t size = SK_MEMINFO_VARS * sizeof about[0];
    memset(about, 0, size);
    return hold->rx >= 0 && getsockopt(hold->rx, SOL_SOCKET, SO_MEMINFO, about, &size) == 0 &&
           size >= (SK_MEMINFO_DROPS + 1) * sizeof about[0];
}

bool hold_ring_queue(const struct hold *hold, struct hold_queue *ret)
{
    uint32_t about[SK_MEMINFO_VARS];
    if (!read_memory(hold, about))
        return false;
    ret->size = about[SK_MEMINFO_RCVBUF];
    ret->used = about[SK_MEMINFO_RMEM_ALLOC] < ret->size ? about[SK_MEMINFO_RMEM_ALLOC] : ret->size;
    return true;
}

static bool read_drops(const struct hold *hold, uint32_t *ret_drops)
{
    uint32_t about[SK_MEMINFO_VARS];
    if (!read_memory(hold, about))
        return false;
    *ret_drops = about[SK_MEMINFO_DROPS];
    return true;
}

/* What published datagrams tell that were not relayed yet: they are not in the relay's sum. */
static uint64_t unrelayed_drops(const struct hold *hold, uint64_t from, uint64_t published)
{
    const struct channel_geometry *geometry = &hold->geometry;
    uint64_t drops = 0;
    if (from > published || published - from > geometry->descriptor_count)
        return 0;
    for (uint64_t seq = from; seq < published; seq++) {
        const struct ring_descriptor *it = channel_page_descriptor(hold->page, geometry, seq);
        drops += (uint32_t)atomic_load_explicit(&it->drops, memory_order_relaxed);
    }
    return drops;
}

static uint64_t ring_end(const struct hold *hold)
{
    if (atomic_load(&hold->page->private.converted) == RING_TO_BE_CONVERTED)
        return hold->before.end;
    return atomic_load_explicit(&hold->page->public.published, memory_order_acquire) +
           inflight_unpublished(hold->page, &hold->geometry);
}

/* Of the older one while a worker has still to bring it into this one. */
static struct ring_stand ring_stand(const struct hold *hold)
{
    struct relay_progress relay = {0};
    if (atomic_load(&hold->page->private.converted) == RING_TO_BE_CONVERTED)
        return hold->before;
    uint64_t published = atomic_load_explicit(&hold->page->public.published, memory_order_acquire);
    channel_page_read_relay(hold->page, &relay);
    return (struct ring_stand){
        .end = ring_end(hold),
        .kernel_dropped = relay.kernel_dropped + unrelayed_drops(hold, relay.next_seq, published) +
                          inflight_unpublished_drops(hold->page, &hold->geometry)};
}

void hold_ring_mark_gap(struct hold *hold)
{
    uint64_t end;
    if (!hold->page)
        return;
    hold->owes_gap = false;
    /* A worker may be at work: what it was given meanwhile can't bear the mark any more. A number 0
     * has nothing before it that could be missing. Nor can one that never stands still. */
    for (int i = 0; i < MARK_TRIES; i++) {
        end = ring_end(hold);
        if (end > 0)
            atomic_store(&hold->page->private.gap_before, end + 1);
        if (ring_end(hold) == end)
            return;
    }
}

void hold_ring_begin_drops(struct hold *hold)
{
    uint32_t drops;
    hold->drops_known = hold->page && read_drops(hold, &drops);
    if (!hold->drops_known)
        return;
    const struct ring_stand stand = ring_stand(hold);
    if (hold->owes_gap)
        hold_ring_mark_gap(hold);
    if (hold->rx_is_new) /* what it has dropped before there was a ring is this ring's to tell */
        drops = 0;
    else if (hold->drops_ended)
        drops = hold->drops_told;
    hold->rx_is_new = hold->drops_ended = false;
    channel_page_set_drops(hold->page, stand.end, drops);
    atomic_store(&hold->page->private.socket_settings, hold->socket_settings);
    hold->drops_base = drops - (uint32_t)stand.kernel_dropped;
}

/* Where the socket's counter stood when this ring began; or, while there is none, when the one
 * before it ended, or the socket was opened. false: nobody knows. */
static bool has_base(const struct hold *hold, uint32_t *ret_base)
{
    *ret_base = hold->drops_known ? hold->drops_base : hold->rx_is_new ? 0 : hold->drops_told;
    return hold->drops_known || (!hold->page && (hold->rx_is_new || hold->drops_ended));
}

/* "Negative": the ring has told more than there was; it is damaged. */
static uint32_t untold_of(uint32_t base, uint32_t drops, uint64_t told)
{
    uint32_t untold = drops - base - (uint32_t)told;
    return untold > INT32_MAX ? 0 : untold;
}

uint32_t hold_ring_untold_drops(const struct hold *hold, uint64_t told)
{
    uint32_t drops, base;
    return has_base(hold, &base) && read_drops(hold, &drops) ? untold_of(base, drops, told) : 0;
}

uint32_t hold_ring_end_drops(struct hold *hold, uint64_t told)
{
    uint32_t drops, base;
    if (!has_base(hold, &base) || !read_drops(hold, &drops))
        return 0;
    hold->drops_known = hold->rx_is_new = false;
    hold->drops_ended = true;
    hold->drops_told = drops;
    return untold_of(base, drops, told);
}

/* Restored from a supervisor before this one: socket and ring have belonged together since the ring
 * was made. Where there is none, that supervisor has counted what there was. */
void hold_ring_adopt_drops(struct hold *hold)
{
    if (hold->rx < 0)
        return;
    if (!hold->page) {
        hold->drops_ended = read_drops(hold, &hold->drops_told);
        return;
    }
    hold->drops_base = atomic_load(&hold->page->private.drops_base);
    hold->drops_known =
        atomic_load(&hold->page->private.drops_from_seq) == hold->page->public.start_seq;
}

/* ---- ring memory ---- */

static uint64_t random_number(void)
{
    uint64_t number = 0;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)
        number = realtime_now_ns(); /* early at boot; it need not be a secret */
    return number;
}

/* What to do about it. */
static const char *hint(int error)
{
    switch (error) {
    case EMFILE:
    case ENFILE:
        return FD_SHORTAGE_ADVICE;
    case EPERM:
    case EACCES:
    case ENOSYS:
        return "does a sandbox forbid it (SystemCallFilter=)? 'holdfastctl capabilities' tells";
    default:
        return "is ring_size too large?";
    }
}

bool hold_ring_is_huge(const struct hold *hold)
{
    return hold->ring >= 0 && memory_page_unit(hold->ring) == HUGE_PAGE_SIZE;
}

/* Of huge pages where that is wanted and they can be had, else of normal ones. */
static int make_memory(struct hold *hold, struct channel_page_start *start,
                       struct channel_memory *ret, const char **ret_step)
{
    int error = channel_memory_make(&hold->geometry, start, ret, ret_step);
    if (error == 0 || !start->huge_pages)
        return error;
    huge_pages_explain(-error, hold->geometry.total_size, hold->pages_reason,
                       sizeof hold->pages_reason);
    start->huge_pages = false;
    return channel_memory_make(&hold->geometry, start, ret, ret_step);
}

int hold_ring_make(struct hold *hold, const struct channel_spec *spec, uint64_t start_seq,
                   char *why, size_t why_size)
{
    struct channel_page_start start = {.channel = spec->name,
                                       .pair = random_number(),
                                       .seq = start_seq,
                                       .huge_pages = spec->ring_pages == RING_PAGES_HUGE};
    struct channel_memory memory;
    const char *step;

    hold_drop_ring(hold);
    hold->pages_reason[0] = '\0';
    int error = make_memory(hold, &start, &memory, &step);
    if (error == 0) {
        hold->ring = memory.ring;
        hold->private_part = memory.private_part;
        step = "mmap";
        error = hold_ring_map(hold);
    }
    if (error < 0) {
        snprintf(why, why_size, "can't make the ring memory of %llu bytes (%s): %s; %s",
                 (unsigned long long)hold->geometry.total_size, step, strerror(-error),
                 hint(-error));
        hold_drop_ring(hold);
        return error;
    }
    hold->ring_fresh = true;
    hold_ring_begin_drops(hold);
    return 0;
}
