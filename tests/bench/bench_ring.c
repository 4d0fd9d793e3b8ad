/* SPDX-License-Identifier: MIT */
/* What the double mapping is worth: datagrams of one size through a ring mapped double or mirror,
 * written as the receiver does and copied out as the recorder does, on one thread. Prints one line
 * of JSON.
 *
 * Beside it: how many batches would have needed a second vector or call at the wrap without either
 * mapping, how many bytes the mirror copied, and what asking for the mapping costs, the first time
 * and again. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/inflight.h"
#include "tests/bench/counts.h"
#include "tests/bench/ring_memory.h"
#include "tests/bench/support.h"

#define LOOK_EVERY 64 /* batches between two looks at the clock */
#define ASK_AGAIN  100000

static struct ring ring;
static struct ring_writer writer;

struct tally {
    uint64_t datagrams;
    uint64_t bytes;
    uint64_t crossing; /* batches that lie across the wrap */
    uint64_t mirrored; /* bytes that the mirror mapping copies once more */
    uint64_t ns;
    struct counts counts;
};

/* What ring_map_mirror() copies for this span. */
static uint64_t mirror_bytes(uint64_t position, uint64_t length)
{
    uint64_t capacity = ring.geometry.data_capacity, tail = ring.geometry.tail;
    uint64_t from = position % capacity, end = from + length, bytes = 0;
    if (ring.data.doubled)
        return 0;
    if (end > capacity)
        bytes += end - capacity;
    if (from < tail)
        bytes += (end < tail ? end : tail) - from;
    return bytes;
}

static void one_batch(const uint8_t *payload, uint8_t *to, uint32_t size, struct tally *tally)
{
    uint32_t slots = ring.geometry.slot_count, slot_size = ring.geometry.slot_size;
    uint64_t first = writer.seq, start = writer.position;
    ring_reserve(&writer, slots);
    for (uint32_t i = 0; i < slots; i++) {
        struct ring_entry entry = {.position = start + (uint64_t)i * slot_size,
                                   .time_ns = 1,
                                   .length = size,
                                   .origin = 4,
                                   .drops = writer.drops};
        memcpy(ring_map_at(&ring.data, entry.position), payload, size);
        tally->mirrored += mirror_bytes(entry.position, size);
        ring_append(&writer, i, &entry);
    }
    ring_publish(&writer, slots, start + (uint64_t)(slots - 1) * slot_size + size);
    for (uint64_t seq = first; seq < writer.seq; seq++) {
        struct ring_datagram datagram;
        if (!ring_peek(&ring, seq, &datagram))
            support_refuse("a datagram is missing");
        ring_copy(to, datagram.data, datagram.length);
        if (!ring_intact(&ring, &datagram))
            support_refuse("a datagram was overwritten");
    }
    uint64_t span = (uint64_t)slots * slot_size;
    tally->crossing += start % ring.geometry.data_capacity + span > ring.geometry.data_capacity;
    tally->datagrams += slots;
    tally->bytes += (uint64_t)slots * size;
}

static struct tally run(uint32_t size, uint64_t duration_ns)
{
    struct tally tally = {0};
    uint8_t *payload = malloc(size), *to = malloc(size);
    if (!payload || !to)
        support_fail("malloc");
    for (uint32_t i = 0; i < size; i++)
        payload[i] = (uint8_t)(i * 131 >> 3);
    /* Once around, so that no page is touched for the first time below. */
    while (writer.position < ring.geometry.data_capacity * 2)
        one_batch(payload, to, size, &tally);
    tally = (struct tally){0};
    counts_begin(&tally.counts);
    uint64_t started = monotonic_now().ns;
    while (tally.ns < duration_ns) {
        for (int i = 0; i < LOOK_EVERY; i++)
            one_batch(payload, to, size, &tally);
        tally.ns = monotonic_now().ns - started;
    }
    counts_end(&tally.counts);
    if (memcmp(payload, to, size) != 0)
        support_refuse("what came out is not what went in");
    free(payload);
    free(to);
    return tally;
}

int main(int argc, char **argv)
{
    const char *reason;
    uint32_t size =
        (uint32_t)support_number(support_option(argc, argv, "--size", "800"), CHANNEL_DATAGRAM_MAX);
    bool mirror = strcmp(support_option(argc, argv, "--mapping", "double"), "mirror") == 0;
    struct channel_spec spec = {.name = RING_MEMORY_CHANNEL,
                                .max_datagram = size ? size : 1,
                                .ring_size =
                                    support_size(support_option(argc, argv, "--ring", "1M")),
                                .mapping = mirror ? RING_MAPPING_MIRROR : RING_MAPPING_DOUBLE};
    uint64_t duration =
        support_number(support_option(argc, argv, "--ms", "200"), 60000) * NS_PER_MS;
    support_pin((int)support_number(support_option(argc, argv, "--cpu", "0"), 1023));

    uint64_t started = monotonic_now().ns;
    int possible = ring_map_probe(&reason);
    uint64_t probe_ns = monotonic_now().ns - started;
    started = monotonic_now().ns;
    for (int i = 0; i < ASK_AGAIN; i++)
        possible |= ring_map_probe(&reason);
    double again_ns = (double)(monotonic_now().ns - started) / ASK_AGAIN;
    if (possible < 0 && !mirror) {
        printf("{\"unavailable\": \"%s\"}\n", reason);
        return 0;
    }
    started = monotonic_now().ns;
    ring_memory_open(&spec, &ring, &writer);
    uint64_t open_ns = monotonic_now().ns - started;
    struct tally tally = run(size, duration);
    printf("{\"datagrams\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"ns\": %" PRIu64
           ", \"crossing\": %" PRIu64 ", \"mirrored_bytes\": %" PRIu64 ", \"batches\": %" PRIu64
           ", \"probe_ns\": %" PRIu64 ", \"probe_again_ns\": %.1f, \"open_ns\": %" PRIu64 ", ",
           tally.datagrams, tally.bytes, tally.ns, tally.crossing, tally.mirrored,
           tally.datagrams / ring.geometry.slot_count, probe_ns, again_ns, open_ns);
    counts_print(&tally.counts);
    printf("}\n");
    ring_detach(&ring);
    return 0;
}
