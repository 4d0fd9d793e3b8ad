/* SPDX-License-Identifier: MIT */
/* What the double mapping saves where a span lies across the wrap: the span handed over as one, or
 * as its two parts with two calls, or with one call and two vectors, as a ring that is mapped once
 * has to. Also for a span that lies within, which costs all of them the same but the question.
 * Prints one line of JSON: ns per span of each means, and what the machine counted. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/bench/counts.h"
#include "tests/bench/ring_memory.h"
#include "tests/bench/support.h"

#define LOOK_EVERY 256 /* spans between two looks at the clock */

/* A span of the ring: contiguous, and its two parts; the second one may be empty. */
struct span {
    const uint8_t *whole;
    struct iovec part[2];
};

struct bench {
    struct ring ring;
    int file;    /* a memfd: what a call costs, not what a disk does */
    uint8_t *to; /* for memcpy */
    size_t size;
};

static void check(ssize_t written, size_t size)
{
    if (written != (ssize_t)size)
        support_fail("writing a span");
}

static void write_one(struct bench *bench, const struct span *span)
{
    check(pwrite(bench->file, span->whole, bench->size, 0), bench->size);
}

static void write_two(struct bench *bench, const struct span *span)
{
    size_t first = span->part[0].iov_len, second = span->part[1].iov_len;
    check(pwrite(bench->file, span->part[0].iov_base, first, 0), first);
    if (second)
        check(pwrite(bench->file, span->part[1].iov_base, second, (off_t)first), second);
}

static void write_vectors(struct bench *bench, const struct span *span)
{
    check(pwritev(bench->file, span->part, span->part[1].iov_len ? 2 : 1, 0), bench->size);
}

static void copy_one(struct bench *bench, const struct span *span)
{
    memcpy(bench->to, span->whole, bench->size);
    __asm__ volatile("" : : "r"(bench->to) : "memory");
}

static void copy_two(struct bench *bench, const struct span *span)
{
    memcpy(bench->to, span->part[0].iov_base, span->part[0].iov_len);
    if (span->part[1].iov_len)
        memcpy(bench->to + span->part[0].iov_len, span->part[1].iov_base, span->part[1].iov_len);
    __asm__ volatile("" : : "r"(bench->to) : "memory");
}

static const struct means {
    const char *name;
    void (*hand_over)(struct bench *bench, const struct span *span);
} means[] = {{"write_one", write_one},
             {"write_two", write_two},
             {"write_vectors", write_vectors},
             {"copy_one", copy_one},
             {"copy_two", copy_two}};

static struct span span_at(const struct bench *bench, uint64_t position)
{
    const struct ring_map *map = &bench->ring.data;
    uint64_t left = map->capacity - position % map->capacity;
    size_t first = left < bench->size ? left : bench->size;
    return (struct span){ring_map_at(map, position),
                         {{ring_map_at(map, position), first}, {map->base, bench->size - first}}};
}

static double ns_per_span(struct bench *bench, const struct means *how, uint64_t position,
                          uint64_t duration_ns)
{
    uint64_t started = monotonic_now().ns, ns = 0, spans = 0;
    while (ns < duration_ns) {
        for (int i = 0; i < LOOK_EVERY; i++) {
            struct span span = span_at(bench, position);
            how->hand_over(bench, &span);
        }
        spans += LOOK_EVERY;
        ns = monotonic_now().ns - started;
    }
    return (double)ns / (double)spans;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct ring_writer writer;
    struct counts counts;
    const char *reason;
    bench.size =
        (size_t)support_number(support_option(argc, argv, "--size", "800"), CHANNEL_DATAGRAM_MAX);
    uint64_t duration =
        support_number(support_option(argc, argv, "--ms", "100"), 60000) * NS_PER_MS;
    support_pin((int)support_number(support_option(argc, argv, "--cpu", "0"), 1023));
    if (bench.size < 2)
        support_refuse("--size of at least 2");
    if (ring_map_probe(&reason) < 0) {
        printf("{\"unavailable\": \"%s\"}\n", reason);
        return 0;
    }
    struct channel_spec spec = {.name = RING_MEMORY_CHANNEL,
                                .max_datagram = (uint32_t)bench.size,
                                .ring_size = 1 << 20,
                                .mapping = RING_MAPPING_DOUBLE};
    ring_memory_open(&spec, &bench.ring, &writer);
    bench.file = memfd_create("spans", MFD_CLOEXEC);
    bench.to = malloc(bench.size);
    if (bench.file < 0 || !bench.to)
        support_fail("memory for the result");
    memset(bench.ring.data.base, 0x5a, bench.ring.data.capacity);
    const uint64_t across = bench.ring.data.capacity - bench.size / 2;
    counts_begin(&counts);
    for (size_t i = 0; i < sizeof means / sizeof *means; i++)
        printf("%s\"%s\": {\"across\": %.2f, \"within\": %.2f}", i ? ", " : "{", means[i].name,
               ns_per_span(&bench, &means[i], across, duration),
               ns_per_span(&bench, &means[i], 4096, duration));
    counts_end(&counts);
    printf(", ");
    counts_print(&counts);
    printf("}\n");
    ring_detach(&bench.ring);
    return 0;
}
