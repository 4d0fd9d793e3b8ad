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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_page.h"

#define RING_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* Page, batch and descriptors: what the ledger is read from. The data stays unmapped here. */
int hold_ring_map(struct hold *hold)
{
    void *page =
        mmap(NULL, hold->geometry.data_offset, PROT_READ | PROT_WRITE, MAP_SHARED, hold->ring, 0);
    if (page == MAP_FAILED)
        return -errno;
    hold->page = page;
    return 0;
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

void hold_ring_begin_drops(struct hold *hold)
{
    struct relay_progress relay = {0};
    uint32_t drops;
    hold->drops_known = hold->page && read_drops(hold, &drops);
    if (!hold->drops_known)
        return;
    uint64_t published = atomic_load_explicit(&hold->page->published, memory_order_acquire);
    channel_page_set_drops(hold->page, published, drops);
    channel_page_read_relay(hold->page, &relay);
    hold->drops_base = drops - (uint32_t)relay.kernel_dropped;
}

uint32_t hold_ring_untold_drops(const struct hold *hold, uint64_t told)
{
    uint32_t drops;
    if (!hold->drops_known || !read_drops(hold, &drops))
        return 0;
    uint32_t untold = drops - hold->drops_base - (uint32_t)told;
    return untold > INT32_MAX
               ? 0
               : untold; /* "negative": the ring has told more than there was; it is damaged */
}

/* Restored from a supervisor before this one: socket and ring have belonged together since the ring
 * was made. */
void hold_ring_adopt_drops(struct hold *hold)
{
    if (!hold->page || hold->rx < 0)
        return;
    hold->drops_base = atomic_load(&hold->page->drops_base);
    hold->drops_known = atomic_load(&hold->page->drops_from_seq) == hold->page->start_seq;
}

/* ---- ring memory ---- */

bool hold_ring_is_one(const struct hold *hold, int fd)
{
    struct stat about;
    return fcntl(fd, F_GET_SEALS) == RING_SEALS && fstat(fd, &about) == 0 &&
           (uint64_t)about.st_size == hold->geometry.total_size;
}

int hold_ring_make(struct hold *hold, const struct channel_spec *spec, uint64_t start_seq,
                   char *why, size_t why_size)
{
    char name[sizeof "holdfast:" + CHANNEL_NAME_SIZE];
    const char *step = "memfd_create";
    int error = 0;

    hold_drop_ring(hold);
    snprintf(name, sizeof name, "holdfast:%s", spec->name);
    hold->ring = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (hold->ring < 0)
        error = -errno;
    if (!error) {
        step = "ftruncate";
        error = ftruncate(hold->ring, (off_t)hold->geometry.total_size) < 0 ? -errno : 0;
    }
    if (!error) {
        step = "mmap";
        error = hold_ring_map(hold);
    }
    if (!error) {
        step = "sealing it";
        channel_page_init(hold->page, &hold->geometry, spec->name, start_seq, 0);
        /* A worker can't pull the memory away from under the supervisor or its own successor. */
        error = fcntl(hold->ring, F_ADD_SEALS, RING_SEALS) < 0 ? -errno : 0;
    }
    if (error < 0) {
        snprintf(why, why_size,
                 "can't make the ring memory of %llu bytes (%s): %s; is ring_size too large?",
                 (unsigned long long)hold->geometry.total_size, step, strerror(-error));
        hold_drop_ring(hold);
        return error;
    }
    hold->ring_fresh = true;
    hold_ring_begin_drops(hold);
    return 0;
}
