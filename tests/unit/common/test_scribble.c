/* SPDX-License-Identifier: MIT */
/* Damaged shared memory. A ring with history, pending datagrams and a live in-flight batch is
 * scribbled over at random (bits, words that look plausible, ranges), in heap memory whose borders
 * AddressSanitizer guards. The check must never read outside; and whatever passes it is continued
 * as a successor would: recover, read everything pending, receive more, be checked again. One
 * hundred thousand seeds for each of four places; a failing seed is printed. */
#include <check.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_page_counters.h"
#include "common/channel_page_check.h"
#include "common/inflight.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"

#if defined(__SANITIZE_THREAD__)
#define SEEDS 10000u /* one thread only: nothing here for ThreadSanitizer to find */
#else
#define SEEDS 100000u
#endif
#define SLOTS 12u

enum place { ANYWHERE, POSITIONS, PROGRESS, PLACES, BATCH, DESCRIPTORS, PLACE_COUNT };

struct damaged_ring {
    struct channel_geometry geometry;
    size_t head_size;
    uint8_t *sound; /* a sound head: page, batch, descriptors */
    uint8_t *head;  /* the one that is scribbled over */
    struct ring ring;
    uint64_t refused, passed, recovered;
};

static uint8_t *page_aligned(size_t size)
{
    void *memory; /* exactly this long, so that one byte behind it is noticed */
    ck_assert_int_eq(posix_memalign(&memory, 4096, size), 0);
    memset(memory, 0, size);
    return memory;
}

/* What the kernel would have written for these messages. */
static void deliver(struct mmsghdr *messages, struct ring *ring, uint32_t count, uint16_t segment)
{
    for (uint32_t i = 0; i < count; i++) {
        struct sockaddr_in source = {.sin_family = AF_INET, .sin_port = htons(4242)};
        _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))] = {0};
        struct cmsghdr header = {
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_UDP, .cmsg_type = UDP_GRO};
        int value = segment;
        memcpy(control, &header, sizeof header);
        memcpy(control + CMSG_LEN(0), &value, sizeof value);
        memcpy(ring->batch->names[i], &source, sizeof source);
        memcpy(ring->batch->control[i], control, sizeof control);
        messages[i].msg_hdr.msg_namelen = sizeof source;
        messages[i].msg_hdr.msg_controllen = segment ? sizeof control : 0;
        messages[i].msg_len = segment ? segment * (i + 3) : i * 37;
    }
}

static void make_ring(struct damaged_ring *damaged, uint32_t offload)
{
    struct channel_spec spec = {.ring_size = 8192,
                                .max_datagram = 200,
                                .receive_offload = offload,
                                .relay_count = 2,
                                .decimate_count = 1};
    memset(damaged, 0, sizeof *damaged);
    channel_geometry_compute(&spec, &damaged->geometry);
    const struct channel_geometry *geometry = &damaged->geometry;
    damaged->head_size = CHANNEL_PRIVATE_SIZE + geometry->descriptor_offset +
                         geometry->descriptor_count * sizeof(struct ring_descriptor);
    damaged->sound = page_aligned(damaged->head_size);
    damaged->head = page_aligned(damaged->head_size);
    struct ring *ring = &damaged->ring;
    size_t data_size = geometry->data_capacity + geometry->tail;
    ring->geometry = *geometry;
    ring->data = (struct ring_map){.base = page_aligned(data_size),
                                   .capacity = geometry->data_capacity,
                                   .tail = geometry->tail,
                                   .mapped_size = data_size};
    ring->page = (struct channel_page *)damaged->head;
    ring->batch = &ring->page->private.batch;
    ring->descriptors = channel_page_descriptors(ring->page, geometry);
}

static uint32_t receive_some(struct ring_writer *writer, uint32_t count)
{
    struct ring *ring = writer->ring;
    uint32_t slots = count < ring->geometry.slot_count ? count : ring->geometry.slot_count;
    ring_reserve(writer, slots);
    deliver(inflight_arm(writer, slots), ring, slots,
            ring->geometry.segments_per_slot > 1 ? 150 : 0);
    return inflight_publish(writer, slots);
}

/* Three times round the ring, readers at different places or all done, and a batch that was
 * received and not published. */
static void make_history(struct damaged_ring *damaged, bool pending)
{
    struct ring *ring = &damaged->ring;
    struct ring_writer writer;
    struct destination_progress counts[2] = {{5, 0, 0}, {4, 1, 0}};
    const struct destination_tally relays = {(const uint32_t[]){0, 1}, counts, 2};
    const struct destination_tally decimates = {(const uint32_t[]){2}, counts, 1};
    const struct channel_page_start start = {
        .channel = RING_FIXTURE_CHANNEL, .pair = 4242, .seq = 1000, .position = 640};
    channel_page_init(ring->page, &damaged->geometry, &start);
    for (uint32_t i = 0; i < 3; i++)
        ring_fixture_place(ring->page, i < 2, i);
    ring_writer_open(&writer, ring);
    while (writer.position < 3 * damaged->geometry.data_capacity)
        receive_some(&writer, SLOTS);
    uint64_t done = pending ? writer.seq - 6 : writer.seq, some = pending ? 2 : 0;
    channel_page_write_relay(ring->page, &(struct relay_progress){.next_seq = done + 2 * some},
                             &relays);
    channel_page_write_commit(ring->page,
                              &(struct commit_progress){.next_seq = done, .recorded = done - 1000});
    channel_page_write_decimate(ring->page, &(struct decimate_progress){.next_seq = done + some},
                                &decimates);
    uint32_t slots = SLOTS < damaged->geometry.slot_count ? SLOTS : damaged->geometry.slot_count;
    ring_reserve(&writer, slots);
    deliver(inflight_arm(&writer, slots), ring, slots - 1,
            damaged->geometry.segments_per_slot > 1 ? 150 : 0);
    memcpy(damaged->sound, damaged->head, damaged->head_size);
}

static void free_ring(struct damaged_ring *damaged)
{
    free(damaged->sound);
    free(damaged->head);
    free(damaged->ring.data.base);
}

/* Where the scribbling of this seed goes: an offset into the head, and how many bytes may be hit.
 */
static size_t place_of(const struct damaged_ring *damaged, enum place place, uint64_t *ret_size)
{
    const struct channel_geometry *geometry = &damaged->geometry;
    switch (place) {
    case POSITIONS:
        *ret_size = offsetof(struct channel_page, public.durable_segment_id) -
                    offsetof(struct channel_page, public.start_seq);
        return offsetof(struct channel_page, public.start_seq);
    case PROGRESS:
        *ret_size = offsetof(struct channel_page, private.quarantined) -
                    offsetof(struct channel_page, private.drops_from_seq);
        return offsetof(struct channel_page, private.drops_from_seq);
    case PLACES:
        *ret_size = 4 * sizeof(struct destination_place);
        return offsetof(struct channel_page, private.places);
    case BATCH:
        *ret_size = sizeof(struct inflight_batch);
        return offsetof(struct channel_page, private.batch);
    case DESCRIPTORS:
        *ret_size = geometry->descriptor_count * sizeof(struct ring_descriptor);
        return CHANNEL_PRIVATE_SIZE + geometry->descriptor_offset;
    default:
        *ret_size = damaged->head_size;
        return 0;
    }
}

/* Values that a check by range alone might let through. */
static uint64_t tempting(uint64_t *random, uint64_t old)
{
    const uint64_t some = ring_fixture_random(random);
    switch (some % 8) {
    case 0:
        return old + (some >> 8) % 64;
    case 1:
        return old - (some >> 8) % 64;
    case 2:
        return old ^ 1ull << (some >> 8) % 64;
    case 3:
        return (some >> 8) % 4096;
    case 4:
        return UINT64_MAX - (some >> 8) % 4096;
    case 5:
        return (1ull << 63) - 2048 + (some >> 8) % 4096;
    case 6:
        return old << 32 | old >> 32;
    default:
        return some;
    }
}

static void scribble(struct damaged_ring *damaged, enum place place, uint64_t seed)
{
    uint64_t random = seed * PLACE_COUNT + place, size;
    uint8_t *at = damaged->head + place_of(damaged, place, &size);
    uint64_t hits = 1 + ring_fixture_random(&random) % 4;
    for (uint64_t hit = 0; hit < hits; hit++) {
        uint64_t how = ring_fixture_random(&random) % 8,
                 offset = ring_fixture_random(&random) % size;
        uint64_t word = offset / 8 * 8, old;
        if (how == 0) {
            at[offset] ^= (uint8_t)(1 + ring_fixture_random(&random) % 255);
        } else if (how < 7) {
            memcpy(&old, at + word, sizeof old);
            old = tempting(&random, old);
            memcpy(at + word, &old, sizeof old);
        } else {
            uint64_t length = 1 + ring_fixture_random(&random) % 300;
            uint8_t value = (uint8_t)ring_fixture_random(&random);
            for (uint64_t i = offset; i < size && i < offset + length; i++)
                at[i] = ring_fixture_random(&random) % 2 ? value
                                                         : (uint8_t)ring_fixture_random(&random);
        }
    }
}

/* What recorder, relay and decimator do: read everything from `seq` on. Returns how many were
 * whole. */
static uint64_t read_pending(const struct ring *ring, uint64_t seq)
{
    static uint8_t copy[65536];
    uint64_t whole = 0;
    while (seq < ring_published(ring)) {
        struct ring_datagram datagram;
        union socket_address source;
        if (!ring_peek(ring, seq, &datagram)) {
            uint64_t next = ring_oldest(ring, seq + 1);
            if (next <= seq)
                ck_abort_msg("a reader at %llu does not get on", (unsigned long long)seq);
            seq = next;
            continue;
        }
        ring_copy(copy, datagram.data, datagram.length);
        ring_source(&datagram, &source);
        whole += ring_intact(ring, &datagram);
        seq++;
    }
    return whole;
}

/* As a successor. Returns NULL, or what went wrong. */
static const char *continue_it(struct damaged_ring *damaged)
{
    struct ring *ring = &damaged->ring;
    struct ring_writer writer;
    struct relay_progress relay;
    struct commit_progress commit;
    struct decimate_progress decimate;
    const char *what;
    uint64_t published = ring_published(ring);

    if (!channel_page_read_relay(ring->page, &relay) ||
        !channel_page_read_commit(ring->page, &commit) ||
        !channel_page_read_decimate(ring->page, &decimate))
        return "a slot that passed can't be read";
    ring_writer_open(&writer, ring);
    damaged->recovered += inflight_recover(&writer);
    if (writer.seq < published || writer.position > 1ull << 63)
        return "the writer went astray";
    read_pending(ring, relay.next_seq);
    read_pending(ring, commit.next_seq);
    read_pending(ring, decimate.next_seq);
    for (int i = 0; i < 3; i++) {
        uint64_t seq = writer.seq;
        uint32_t count = receive_some(&writer, SLOTS);
        if (read_pending(ring, seq) != count)
            return "what was received after it can't be read";
        ring_reserve_would_lap(&writer, 1, seq);
    }
    ring_rewind(&writer);
    receive_some(&writer, 1);
    ring_set_flag(ring, writer.seq - 1, DATAGRAM_QUARANTINED);
    if (channel_page_check(ring->page, ring->descriptors, &damaged->geometry, RING_FIXTURE_CHANNEL,
                           &what) < 0)
        return what;
    return NULL;
}

static void check_seed(struct damaged_ring *damaged, enum place place, uint64_t seed)
{
    struct channel_spec spec = {.relay_count = 2, .decimate_count = 1, .record = {.enabled = 1}};
    struct counters counters;
    uint64_t pending;
    const char *what;
    memcpy(damaged->head, damaged->sound, damaged->head_size);
    scribble(damaged, place, seed);
    channel_page_counters(damaged->ring.page, &spec, &damaged->geometry, &counters, &pending);
    if (channel_page_check(damaged->ring.page, damaged->ring.descriptors, &damaged->geometry,
                           RING_FIXTURE_CHANNEL, &what) < 0) {
        damaged->refused++;
        return;
    }
    damaged->passed++;
    what = continue_it(damaged);
    if (what)
        ck_abort_msg("place %d, seed %llu: it passed, but then: %s", place,
                     (unsigned long long)seed, what);
}

static void scribble_over(enum place place, uint32_t offload, uint32_t seeds)
{
    struct damaged_ring damaged;
    const char *what;
    make_ring(&damaged, offload);
    make_history(&damaged, true);
    ck_assert_msg(channel_page_check(damaged.ring.page, damaged.ring.descriptors, &damaged.geometry,
                                     RING_FIXTURE_CHANNEL, &what) == 0,
                  "the sound ring is refused: %s", what);
    for (uint64_t seed = 0; seed < seeds; seed++) {
        if (seed == seeds / 2) { /* the other half with every reader done: the writer still needs
                                    the last datagram */
            free_ring(&damaged);
            uint64_t counts[] = {damaged.refused, damaged.passed, damaged.recovered};
            make_ring(&damaged, offload);
            make_history(&damaged, false);
            damaged.refused = counts[0], damaged.passed = counts[1], damaged.recovered = counts[2];
        }
        check_seed(&damaged, place, seed);
    }
    /* Both ways must have been walked, or nothing was shown. */
    ck_assert_uint_gt(damaged.refused, 0);
    ck_assert_uint_gt(damaged.passed, 0);
    ck_assert_uint_gt(damaged.recovered, 0);
    free_ring(&damaged);
}

START_TEST(scribbled_memory_is_refused_or_continued)
{
    scribble_over((enum place)_i, 0, SEEDS);
}
END_TEST

/* The same with coalesced runs in the batch: thirty times the memory per seed, so fewer of them. */
START_TEST(scribbled_memory_with_coalesced_runs)
{
    scribble_over((enum place)_i, 1, 2000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scribble");
    TCase *scribbled = tcase_create("scribbled");
    tcase_set_timeout(scribbled, 180);
    tcase_add_loop_test(scribbled, scribbled_memory_is_refused_or_continued, 0, PLACE_COUNT);
    tcase_add_loop_test(scribbled, scribbled_memory_with_coalesced_runs, 0, PLACE_COUNT);
    suite_add_tcase(suite, scribbled);
    return unit_run(suite);
}
