/* SPDX-License-Identifier: MIT */
/* Slots of shared memory that flip: pairs of word arrays with a check word at their ends, of which
 * a version word says which one holds. For channel_page.c, which writes and reads them, and
 * channel_public.c, which reads them where there is only the public memory. A slot that is mixed
 * must never be taken for sound. */
#ifndef HOLDFAST_COMMON_CHANNEL_SLOT_H
#define HOLDFAST_COMMON_CHANNEL_SLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNEL_SLOT_MIX_BASE    0x9e3779b97f4a7c15ull
#define CHANNEL_SLOT_MIX_FACTOR  0xff51afd7ed558ccdull
#define CHANNEL_SLOT_MIX_INVERSE 0x4f74430c22a54005ull

static inline uint64_t channel_slot_mix(uint64_t mix, uint64_t word)
{
    mix = (mix ^ word) * CHANNEL_SLOT_MIX_FACTOR;
    return mix ^ mix >> 32;
}

static inline uint64_t channel_slot_check(const _Atomic uint64_t *words, size_t count,
                                          uint64_t seed)
{
    uint64_t mix = CHANNEL_SLOT_MIX_BASE ^ seed;
    for (size_t i = 0; i < count; i++)
        mix = channel_slot_mix(mix, atomic_load_explicit(&words[i], memory_order_relaxed));
    return mix;
}

_Static_assert(CHANNEL_SLOT_MIX_FACTOR *CHANNEL_SLOT_MIX_INVERSE == 1, "mixing in can be undone");

/* The version with which a slot was stored: undoes channel_slot_check(). Of a damaged one,
 * nonsense. */
static inline uint64_t channel_slot_version(const _Atomic uint64_t *slot, size_t count)
{
    uint64_t mix = atomic_load_explicit(&slot[count], memory_order_relaxed);
    for (size_t i = count; i-- > 0;)
        mix = (mix ^ mix >> 32) * CHANNEL_SLOT_MIX_INVERSE ^
              atomic_load_explicit(&slot[i], memory_order_relaxed);
    return mix ^ CHANNEL_SLOT_MIX_BASE;
}

static inline void channel_slot_store(_Atomic uint64_t *slot, const uint64_t *values, size_t count,
                                      uint64_t version)
{
    /* The flip to the other slot must be seen before this one changes, or a reader that still holds
     * the version before it would find this slot mixed and call it damaged. Pairs with the fence in
     * channel_slot_read_pair(). */
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < count; i++)
        atomic_store_explicit(&slot[i], values[i], memory_order_relaxed);
    atomic_store_explicit(&slot[count], channel_slot_check(slot, count, version),
                          memory_order_relaxed);
}

static inline bool channel_slot_load(const _Atomic uint64_t *slot, uint64_t *ret_values,
                                     size_t count, uint64_t version)
{
    bool sound = atomic_load_explicit(&slot[count], memory_order_relaxed) ==
                 channel_slot_check(slot, count, version);
    for (size_t i = 0; i < count; i++)
        ret_values[i] = atomic_load_explicit(&slot[i], memory_order_relaxed);
    return sound;
}

#define CHANNEL_SLOT_READ_TRIES 16

/* Read the current slot of a pair, as the version's lowest bit tells, while its writer may flip. */
static inline bool channel_slot_read_pair(const _Atomic uint64_t *version_word,
                                          const _Atomic uint64_t *pair, size_t count,
                                          uint64_t *ret_values)
{
    for (int attempt = 0; attempt < CHANNEL_SLOT_READ_TRIES; attempt++) {
        uint64_t version = atomic_load_explicit(version_word, memory_order_acquire);
        bool sound =
            channel_slot_load(pair + (version & 1) * (count + 1), ret_values, count, version);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(version_word, memory_order_relaxed) != version)
            continue;
        return sound;
    }
    return false;
}

#endif
