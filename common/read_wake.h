/* SPDX-License-Identifier: MIT */
/* How a channel's worker wakes the gate when a reader sleeps: one word per channel in a memory file
 * that gate, supervisor and workers share and no reader ever sees, and one eventfd.
 *
 *   gate    word = what is waited for; full fence; look at commit and published; sleep
 *   worker  commit, or publish; full fence; if word names that: take it out, write the eventfd
 *
 * So one of the two always sees the other. Who dies between the two takes a wake-up with
 * it: a worker therefore writes the eventfd once when it has attached, before anything else that it
 * publishes or commits; and a new gate looks at everything. The eventfd is non-blocking on both
 * sides: a full counter is as good as one more. */
#ifndef HOLDFAST_COMMON_READ_WAKE_H
#define HOLDFAST_COMMON_READ_WAKE_H

#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#define READ_WAKE_CHANNELS 4096 /* words in the memory file */
#define READ_WAKE_SIZE     (READ_WAKE_CHANNELS * sizeof(struct read_wake_word))
/* Behind the words: what the gate says when a fatal signal hits it, a struct last_words. */
#define READ_WAKE_LAST_WORDS  READ_WAKE_SIZE
#define READ_WAKE_MEMORY_SIZE (READ_WAKE_SIZE + 4096)

/* What is waited for. */
enum {
    READ_WAKE_COMMITTED = 1, /* by who reads the log */
    READ_WAKE_PUBLISHED = 2, /* by who reads the ring */
    READ_WAKE_ANY = READ_WAKE_COMMITTED | READ_WAKE_PUBLISHED,
};

struct read_wake_word {
    _Alignas(64) _Atomic uint32_t armed;
};

/* Of the worker: word may be NULL, then nobody reads here. */
static inline void read_wake_ring(struct read_wake_word *word, int bell, uint32_t what)
{
    if (!word)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    if ((atomic_load_explicit(&word->armed, memory_order_relaxed) & what) == 0 ||
        (atomic_fetch_and_explicit(&word->armed, ~what, memory_order_relaxed) & what) == 0)
        return;
    const uint64_t one = 1;
    ssize_t written = write(bell, &one, sizeof one);
    (void)written; /* EAGAIN: it is about to be woken anyway */
}

/* Of the gate, before it looks once more. */
static inline void read_wake_arm(struct read_wake_word *word, uint32_t what)
{
    atomic_store_explicit(&word->armed, what, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

#endif
