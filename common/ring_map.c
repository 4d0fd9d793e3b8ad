/* SPDX-License-Identifier: MIT */
/* Maps ring memory twice back to back, or once with a mirrored tail. Called by workers after exec
 * (never inherited) and by tests. Must never touch the ring's content: a successor maps a ring that
 * is full of live datagrams. */
#include "common/ring_map.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/memory_page.h"

static int map_double(int memfd, uint64_t offset, struct ring_map *map)
{
    size_t size = 2 * map->capacity;
    uint8_t *base;
    int result = memory_page_reserve(size, 0, memory_page_unit(memfd), &base);
    if (result < 0)
        return result;
    for (int half = 0; half < 2; half++) {
        void *at = base + (size_t)half * map->capacity;
        if (mmap(at, map->capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd,
                 (off_t)offset) == MAP_FAILED) {
            int error = errno;
            munmap(base, size);
            return -error;
        }
    }
    madvise(base, size, MADV_DONTFORK); /* one process, one writer */
    map->base = base;
    map->mapped_size = size;
    map->doubled = true;
    return 0;
}

static int map_mirror(int memfd, uint64_t offset, struct ring_map *map)
{
    /* Whole pages, as the kernel maps them: the last one must be known as mapped, so that it can be
     * populated. */
    size_t page = (size_t)memory_page_unit(memfd);
    size_t size = (map->capacity + map->tail + page - 1) / page * page;
    uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, (off_t)offset);
    if (base == MAP_FAILED)
        return -errno;
    madvise(base, size, MADV_DONTFORK);
    map->base = base;
    map->mapped_size = size;
    map->doubled = false;
    return 0;
}

/* The kernel promised that both halves are the same pages; look at several places without changing
 * any. */
static bool halves_agree(const struct ring_map *map)
{
    uint64_t step = map->capacity / 5; /* it is whole pages */
    for (uint64_t k = 0; k < map->capacity; k += step)
        if (map->base[k] != map->base[k + map->capacity])
            return false;
    return true;
}

static struct {
    pthread_once_t once;
    int result;
    char reason[96];
} probe = {.once = PTHREAD_ONCE_INIT};

/* Write through one half, read through the other, at several places, on scratch memory. */
static int probe_scratch(void)
{
    uint64_t capacity = 4 * (uint64_t)sysconf(_SC_PAGESIZE);
    struct ring_map map = {.capacity = capacity, .tail = capacity};
    int memfd = memfd_create("holdfast-probe", MFD_CLOEXEC);
    if (memfd < 0) {
        int error = errno;
        snprintf(probe.reason, sizeof probe.reason, "memfd_create: %s", strerror(error));
        return -error;
    }
    int result = ftruncate(memfd, (off_t)capacity) < 0 ? -errno : map_double(memfd, 0, &map);
    fd_close(&memfd);
    if (result < 0) {
        snprintf(probe.reason, sizeof probe.reason, "mapping twice: %s", strerror(-result));
        return result;
    }
    assert(map.base);
    static const uint64_t eighths[] = {0, 1, 3, 5, 7};
    for (size_t i = 0; i < sizeof eighths / sizeof *eighths; i++) {
        uint64_t k = capacity / 8 * eighths[i] + i;
        volatile uint8_t *low = map.base + k;
        volatile uint8_t *high = map.base + k + capacity;
        *low = (uint8_t)(0xa0 + i);
        bool up = *high == (uint8_t)(0xa0 + i);
        *high = (uint8_t)(0x50 + i);
        if (!up || *low != (uint8_t)(0x50 + i)) {
            snprintf(probe.reason, sizeof probe.reason, "the two halves differ at offset %llu",
                     (unsigned long long)k);
            result = -ENOTSUP;
            break;
        }
    }
    munmap(map.base, map.mapped_size);
    return result;
}

static void probe_once(void)
{
    probe.result = probe_scratch();
}

int ring_map_probe(const char **ret_reason)
{
    pthread_once(&probe.once, probe_once);
    *ret_reason = probe.reason;
    return probe.result;
}

static int try_double(int memfd, uint64_t offset, struct ring_map *map)
{
    uint64_t page = memory_page_unit(memfd);
    if (offset % page || map->capacity % page) {
        snprintf(map->reason, sizeof map->reason, "ring of %llu bytes is not whole pages",
                 (unsigned long long)map->capacity);
        return -EINVAL;
    }
    const char *why;
    int result = ring_map_probe(&why);
    if (result < 0) {
        snprintf(map->reason, sizeof map->reason, "%s", why);
        return result;
    }
    result = map_double(memfd, offset, map);
    if (result < 0) {
        snprintf(map->reason, sizeof map->reason, "mapping twice: %s", strerror(-result));
        return result;
    }
    if (!halves_agree(map)) {
        ring_map_close(map);
        snprintf(map->reason, sizeof map->reason, "the two halves differ");
        return -ENOTSUP;
    }
    return 0;
}

int ring_map_open(int memfd, uint64_t offset, uint64_t capacity, uint64_t tail,
                  enum ring_mapping_wanted wanted, struct ring_map *ret)
{
    *ret = (struct ring_map){.capacity = capacity, .tail = tail};
    if (capacity == 0 || tail > capacity || capacity > SIZE_MAX / 4)
        return -EINVAL;
    if (wanted == RING_MAPPING_MIRROR) {
        snprintf(ret->reason, sizeof ret->reason, "mapping = \"mirror\" is configured");
        return map_mirror(memfd, offset, ret);
    }
    int result = try_double(memfd, offset, ret);
    if (result == 0)
        return 0;
    if (wanted == RING_MAPPING_DOUBLE)
        return -ENOTSUP;
    return map_mirror(memfd, offset, ret);
}

void ring_map_refresh_tail(const struct ring_map *map)
{
    if (!map->doubled)
        memcpy(map->base + map->capacity, map->base, map->tail);
}

void ring_map_close(struct ring_map *map)
{
    if (map->base)
        munmap(map->base, map->mapped_size);
    map->base = NULL;
    map->mapped_size = 0;
}

void ring_map_mirror(const struct ring_map *map, uint64_t position, uint64_t length)
{
    assert(length <= map->tail);
    if (map->doubled || length == 0)
        return;
    uint64_t from = position % map->capacity;
    uint64_t end = from + length;
    if (end > map->capacity) /* ran into the tail: bring it to the front */
        memcpy(map->base, map->base + map->capacity, end - map->capacity);
    if (from < map->tail) { /* wrote at the front: keep the tail equal */
        uint64_t until = end < map->tail ? end : map->tail;
        memcpy(map->base + map->capacity + from, map->base + from, until - from);
    }
}
