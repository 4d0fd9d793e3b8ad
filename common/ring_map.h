/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* The ring's bytes in this process's address space, so that any span of up to `tail` bytes is
 * contiguous, also across the wrap.
 *
 *   double:  |<-- capacity -->|<-- capacity (the same pages again) -->|
 *   mirror:  |<-- capacity -->|<- tail ->|   ring_map_mirror() keeps tail equal to the first tail bytes
 *
 * The memfd always has room for the tail, so one worker may map double and its successor mirror. */
/* clang-format on */
#ifndef HOLDFAST_COMMON_RING_MAP_H
#define HOLDFAST_COMMON_RING_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/channel_spec.h"

struct ring_map {
    uint8_t *base;      /* NULL when not mapped */
    uint64_t capacity;  /* bytes */
    uint64_t tail;      /* longest span; at most capacity */
    size_t mapped_size; /* bytes of address space to unmap */
    bool doubled;
    char reason[96]; /* why it is what it is: "" for double as wanted */
};

/* Map capacity bytes of memfd from offset on. capacity and offset are whole pages for double;
 * mirror takes any capacity at a whole-page offset. 0 or -errno: -ENOTSUP when `double` was wanted
 * and can't be had (see ret->reason). */
int ring_map_open(int memfd, uint64_t offset, uint64_t capacity, uint64_t tail,
                  enum ring_mapping_wanted wanted, struct ring_map *ret);
void ring_map_close(struct ring_map *map);

/* Can this machine map a ring twice? Probed once per process with a scratch memfd; asking again
 * only reads the answer. 0 or -errno, *ret_reason says what failed. */
int ring_map_probe(const char **ret_reason);

/* The address of a 64-bit position. Valid for tail bytes from there. */
static inline uint8_t *ring_map_at(const struct ring_map *map, uint64_t position)
{
    return map->base + position % map->capacity;
}

/* To be called after length (<= tail) bytes at position were written: mirror copies what lies at
 * the wrap. */
void ring_map_mirror(const struct ring_map *map, uint64_t position, uint64_t length);

/* Mirror only: make the tail equal to the front. For a successor whose predecessor had mapped
 * double; after a mirror predecessor it would overwrite datagrams that are only in the tail yet. */
void ring_map_refresh_tail(const struct ring_map *map);

#endif
