/* SPDX-License-Identifier: MIT */
/* The datagram ring as its writer and readers see it: what goes in comes out under its number until
 * it is lapped, and never after. First one thread and every edge (fields, wraps, positions beyond
 * 2^63, rewind, the wait condition), then a writer at full speed with a reader that keeps up and
 * one that is lapped on purpose, judged by content. */
#include "common/ring.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "common/channel_page_check.h"
#include "common/inflight.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"

#define MAX_DATAGRAM 200u

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define THREADED_DATAGRAMS 40000u
#else
#define THREADED_DATAGRAMS 400000u
#endif

/* Every test runs on both mappings: the loop index says which. */
static const enum ring_mapping_wanted mappings[] = {RING_MAPPING_DOUBLE, RING_MAPPING_MIRROR};

static struct ring_fixture_settings settings_for(int index)
{
    return (struct ring_fixture_settings){
        .ring_size = 8192, .max_datagram = MAX_DATAGRAM, .mapping = mappings[index]};
}

/* Each number has its own length, 0 included. */
static uint32_t length_of(uint64_t seq)
{
    return (uint32_t)(seq * 2654435761u >> 7) % (MAX_DATAGRAM + 1);
}

static void write_next(struct ring_writer *writer)
{
    uint8_t payload[MAX_DATAGRAM];
    uint32_t length = length_of(writer->seq);
    ring_fixture_fill(payload, writer->seq, length);
    ring_fixture_write(writer, payload, length);
}

static void write_many(struct ring_writer *writer, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        write_next(writer);
}

/* Copy it out as a reader must: -1 = lapped, 0 = whole but wrong, 1 = whole and right. */
static int read_one(const struct ring *ring, uint64_t seq)
{
    struct ring_datagram datagram;
    uint8_t copy[MAX_DATAGRAM + 64];
    if (!ring_peek(ring, seq, &datagram))
        return -1;
    ring_copy(copy, datagram.data, datagram.length);
    if (!ring_intact(ring, &datagram))
        return -1;
    return datagram.seq == seq && datagram.length == length_of(seq) &&
           ring_fixture_matches(copy, seq, datagram.length);
}

START_TEST(every_field_comes_back)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    struct ring_datagram datagram;
    union socket_address source;
    ring_fixture_open(&fixture, &settings);
    struct ring_writer *writer = &fixture.writer;
    struct ring_entry entry = {
        .position = writer->position, .time_ns = 1234567890123456789ull, .length = 3};
    entry.cut = 70000;
    writer->drops = UINT32_MAX - 2;
    entry.drops = 2; /* the kernel's 32-bit counter went round */
    memcpy(entry.address, "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
    entry.origin = 7ull << 32 | 50123ull << 16 | 6;

    ring_reserve(writer, 2);
    memcpy(ring_map_at(&fixture.ring.data, entry.position), "abc", 3);
    ring_append(writer, 0, &entry);
    entry.position += 64;
    entry.length = 0;
    entry.drops = 1; /* queued before the counter stood at 2 */
    ring_append(writer, 1, &entry);
    ck_assert_uint_eq(ring_published(&fixture.ring), 0);
    ring_publish(writer, 2, entry.position);
    ck_assert_uint_eq(ring_published(&fixture.ring), 2);

    ck_assert(ring_peek(&fixture.ring, 0, &datagram));
    ck_assert_uint_eq(datagram.time_ns, 1234567890123456789ull);
    ck_assert_uint_eq(datagram.cut, 70000);
    ck_assert_uint_eq(datagram.lost_before, 5);
    ck_assert_uint_eq(datagram.flags, 0);
    ck_assert_mem_eq(datagram.data, "abc", 3);
    ring_source(&datagram, &source);
    ck_assert_int_eq(source.v6.sin6_family, AF_INET6);
    ck_assert_int_eq(ntohs(source.v6.sin6_port), 50123);
    ck_assert_uint_eq(source.v6.sin6_scope_id, 7);
    ck_assert_mem_eq(&source.v6.sin6_addr, "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16);

    ring_set_flag(&fixture.ring, 0, DATAGRAM_QUARANTINED);
    ck_assert(ring_peek(&fixture.ring, 0, &datagram));
    ck_assert_uint_eq(datagram.flags, DATAGRAM_QUARANTINED);
    ck_assert_uint_eq(datagram.port, 50123);
    ck_assert_uint_eq(datagram.family, 6);
    ck_assert(ring_peek(&fixture.ring, 1, &datagram));
    ck_assert_uint_eq(datagram.lost_before, 0);
    ck_assert_uint_eq(datagram.length, 0);

    write_next(writer);
    ck_assert(ring_peek(&fixture.ring, 2, &datagram));
    ring_source(&datagram, &source);
    ck_assert_int_eq(source.v4.sin_family, AF_INET);
    ck_assert_uint_eq(ntohl(source.v4.sin_addr.s_addr), INADDR_LOOPBACK);
    ck_assert_int_eq(ntohs(source.v4.sin_port), 4242);
    ring_fixture_close(&fixture);
}
END_TEST

/* In the same words as an address: nothing of it is lost on the way, nor told as an address. */
START_TEST(a_publisher_comes_back)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    struct ring_datagram datagram;
    union socket_address source, again;
    ring_fixture_open(&fixture, &settings);
    struct ring_writer *writer = &fixture.writer;
    struct ring_entry entry = {
        .position = writer->position, .time_ns = 1234567890123456789ull, .length = 3};
    socket_address_local(UINT32_MAX, 4100000000u, "fourteen-bytes", &source);
    ring_local_words(&source, entry.address, &entry.origin);
    ring_reserve(writer, 1);
    ring_append(writer, 0, &entry);
    ring_publish(writer, 1, entry.position + 3);
    ring_set_flag(&fixture.ring, 0, DATAGRAM_QUARANTINED);

    ck_assert(ring_peek(&fixture.ring, 0, &datagram));
    ck_assert_uint_eq(datagram.family, RING_FAMILY_LOCAL);
    ck_assert_uint_eq(datagram.flags, DATAGRAM_QUARANTINED);
    ring_source(&datagram, &again);
    ck_assert_mem_eq(&again, &source, sizeof source);
    ck_assert(ring_peek_newest(fixture.ring.page, &fixture.geometry, &datagram));
    ring_source(&datagram, &again);
    ck_assert_mem_eq(&again, &source, sizeof source);
    ring_fixture_close(&fixture);
}
END_TEST

/* Who has the page alone is told of the newest datagram, and of nothing that can't be. */
START_TEST(the_newest_is_found_and_nonsense_is_not_told)
{
    struct ring_fixture fixture;
    const struct ring_fixture_settings settings = {.ring_size = 65536, .max_datagram = 1000};
    ring_fixture_open(&fixture, &settings);
    struct channel_page *page = fixture.ring.page;
    struct ring_datagram newest;
    union socket_address source;

    ck_assert(!ring_peek_newest(page, &fixture.geometry, &newest));
    write_next(&fixture.writer);
    write_next(&fixture.writer);
    ck_assert(ring_peek_newest(page, &fixture.geometry, &newest));
    ck_assert_uint_eq(newest.seq, 1);
    ck_assert_uint_gt(newest.time_ns, 0);
    ck_assert_ptr_null(newest.data);
    ring_source(&newest, &source);
    ck_assert_int_eq(ntohs(source.v4.sin_port), 4242);

    static const uint64_t published[] = {0, 3, 1000000, INT64_MAX, 1ull << 63, UINT64_MAX};
    uint64_t reserved = atomic_load(&page->public.reserved_seq);
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        atomic_store(&page->public.published, published[i]);
        atomic_store(&page->public.reserved_seq, i < 2 ? reserved : published[i] + (i == 2));
        ring_peek_newest(page, &fixture.geometry, &newest); /* no crash; most are refused */
        if (published[i] == 0 || published[i] > INT64_MAX)
            ck_assert(!ring_peek_newest(page, &fixture.geometry, &newest));
    }
    atomic_store(&page->public.published, 2);
    atomic_store(&page->public.reserved_seq, UINT64_MAX);
    ck_assert(!ring_peek_newest(page, &fixture.geometry, &newest));
    atomic_store(&page->public.reserved_seq, reserved);

    struct ring_descriptor *last = channel_page_descriptors(page, &fixture.geometry) + 1;
    uint64_t origin = atomic_load(&last->origin);
    atomic_store(&last->origin, 7);
    ck_assert(!ring_peek_newest(page, &fixture.geometry, &newest));
    atomic_store(&last->origin, origin);
    ck_assert(ring_peek_newest(page, &fixture.geometry, &newest));
    atomic_store(&last->time_ns, UINT64_MAX);
    ck_assert(!ring_peek_newest(page, &fixture.geometry, &newest));
    ring_fixture_close(&fixture);
}
END_TEST

/* After every datagram: the lapped ones are a prefix, everything after it is whole. */
static void check_all_readable(const struct ring *ring, uint64_t start)
{
    uint64_t published = ring_published(ring);
    uint64_t seq = start;
    while (seq < published && read_one(ring, seq) < 0)
        seq++;
    if (published - start > 40 && published - seq < 20)
        ck_abort_msg("only %llu datagrams are left", (unsigned long long)(published - seq));
    for (; seq < published; seq++)
        if (read_one(ring, seq) != 1)
            ck_abort_msg("datagram %llu of %llu is wrong", (unsigned long long)seq,
                         (unsigned long long)published);
}

START_TEST(what_is_not_lapped_is_whole)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    ring_fixture_open(&fixture, &settings);
    for (int i = 0; i < 2000; i++) {
        write_next(&fixture.writer);
        check_all_readable(&fixture.ring, i < 300 ? 0 : (uint64_t)i - 300);
    }
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(positions_and_numbers_near_2_63)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    settings.start_seq = INT64_MAX - 1500;
    settings.start_position = (1ull << 63) - 4096;
    ring_fixture_open(&fixture, &settings);
    for (int generation = 0; generation < 10; generation++) {
        for (int i = 0; i < 100; i++)
            write_next(&fixture.writer);
        uint64_t start = generation < 3 ? settings.start_seq : fixture.writer.seq - 300;
        check_all_readable(&fixture.ring, start);
        uint64_t position = fixture.writer.position, seq = fixture.writer.seq;
        ring_detach(&fixture.ring);
        ring_fixture_attach(&fixture,
                            mappings[_i]); /* refuses what channel_page_check() finds wrong */
        ck_assert_uint_eq(fixture.writer.position, position);
        ck_assert_uint_eq(fixture.writer.seq, seq);
        check_all_readable(&fixture.ring, start);
    }
    ck_assert_uint_gt(fixture.writer.position, 1ull << 63);
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(a_lapped_copy_is_noticed)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    struct ring_datagram datagram;
    ring_fixture_open(&fixture, &settings);
    write_many(&fixture.writer, 10);
    ck_assert(ring_peek(&fixture.ring, 9, &datagram));
    ck_assert(ring_intact(&fixture.ring, &datagram));
    write_many(&fixture.writer, 20);
    ck_assert(ring_intact(&fixture.ring, &datagram));
    write_many(&fixture.writer, 500);
    ck_assert(!ring_intact(&fixture.ring, &datagram));
    ck_assert(!ring_peek(&fixture.ring, 9, &datagram));
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(empty_datagrams_lap_by_number)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    struct ring_datagram datagram;
    ring_fixture_open(&fixture, &settings);
    uint64_t count = fixture.geometry.descriptor_count;
    for (uint64_t i = 0; i <= count; i++)
        ring_fixture_write(&fixture.writer, "", 0);
    ck_assert_uint_eq(fixture.writer.position, 0);
    ck_assert(
        !ring_peek(&fixture.ring, 0, &datagram)); /* its descriptor belongs to number `count` now */
    ck_assert(ring_peek(&fixture.ring, 1, &datagram));
    ck_assert(ring_peek(&fixture.ring, count, &datagram));
    ring_fixture_close(&fixture);
}
END_TEST

/* Positions must never come near their end, however often the writer goes back to the front. */
START_TEST(going_back_to_the_front_ends_before_positions_do)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    settings.start_position = RING_REWIND_MAX - 2 * settings.ring_size;
    ring_fixture_open(&fixture, &settings);
    for (int round = 0; round < 20; round++) {
        write_many(&fixture.writer, 5);
        ring_rewind(&fixture.writer);
    }
    ck_assert_uint_gt(fixture.writer.position, RING_REWIND_MAX);
    ck_assert_uint_lt(fixture.writer.position, RING_REWIND_MAX + 3 * settings.ring_size);
    ck_assert_uint_gt(ring_writer_offset(&fixture.writer), 0);
    const char *what;
    ck_assert_msg(channel_page_check(fixture.ring.page, fixture.ring.descriptors, &fixture.geometry,
                                     RING_FIXTURE_CHANNEL, &what) == 0,
                  "%s", what);
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(the_oldest_is_the_first_with_a_batch_of_slack)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    ring_fixture_open(&fixture, &settings);
    struct ring *ring = &fixture.ring;
    ck_assert_uint_eq(ring_oldest(ring, 0), 0);
    for (int i = 0; i < 1000; i++) {
        write_next(&fixture.writer);
        uint64_t oldest = ring_oldest(ring, 0);
        if (read_one(ring, oldest) != 1)
            ck_abort_msg("%llu was called the oldest", (unsigned long long)oldest);
        /* Brute force: the first one that also survives the reservation of a full batch. */
        struct ring_writer later = fixture.writer;
        uint64_t position = atomic_load(&ring->page->public.reserved_position),
                 seq = atomic_load(&ring->page->public.reserved_seq);
        uint64_t slots = fixture.geometry.slot_count;
        atomic_store(&ring->page->public.reserved_position,
                     position + slots * fixture.geometry.slot_size);
        atomic_store(&ring->page->public.reserved_seq, seq + slots);
        uint64_t first = 0;
        while (first < later.seq && read_one(ring, first) < 0)
            first++;
        atomic_store(&ring->page->public.reserved_position, position);
        atomic_store(&ring->page->public.reserved_seq, seq);
        if (oldest != first)
            ck_abort_msg("oldest %llu, should be %llu", (unsigned long long)oldest,
                         (unsigned long long)first);
    }
    uint64_t oldest = ring_oldest(ring, 0), published = ring_published(ring);
    ck_assert_uint_eq(ring_oldest(ring, oldest + 3), oldest + 3);
    ck_assert_uint_eq(ring_oldest(ring, published), published);
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(waiting_is_asked_for_exactly_when_it_would_lap)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    struct ring_datagram datagram;
    int laps = 0, spares = 0;
    ring_fixture_open(&fixture, &settings);
    struct channel_page *page = fixture.ring.page;
    for (int i = 0; i < 400; i++) {
        write_next(&fixture.writer);
        uint64_t first = 0;
        while (!ring_peek(&fixture.ring, first, &datagram))
            first++;
        for (uint64_t keep = first; keep < fixture.writer.seq; keep++) {
            for (uint32_t slots = 1; slots <= fixture.geometry.slot_count; slots += 3) {
                uint64_t position = atomic_load(&page->public.reserved_position),
                         seq = atomic_load(&page->public.reserved_seq);
                if (!ring_peek(&fixture.ring, keep, &datagram))
                    ck_abort_msg("%llu is gone already", (unsigned long long)keep);
                bool would = ring_reserve_would_lap(&fixture.writer, slots, keep);
                ring_reserve(&fixture.writer, slots);
                if (would == ring_intact(&fixture.ring, &datagram))
                    ck_abort_msg("keeping %llu with %u slots: would_lap says %d and is wrong",
                                 (unsigned long long)keep, slots, would);
                laps += would;
                spares += !would;
                atomic_store(&page->public.reserved_position, position);
                atomic_store(&page->public.reserved_seq, seq);
            }
        }
    }
    ck_assert_int_gt(laps, 0);
    ck_assert_int_gt(spares, 0);
    ck_assert(
        !ring_reserve_would_lap(&fixture.writer, 1, fixture.writer.seq)); /* nothing to keep */
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(rewind_goes_to_the_start_and_is_continued)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    ring_fixture_open(&fixture, &settings);
    for (int round = 0; round < 50; round++) {
        write_many(&fixture.writer, 1 + (uint32_t)round % 7);
        uint64_t before = fixture.writer.position;
        ring_rewind(&fixture.writer);
        ck_assert_uint_eq(ring_writer_offset(&fixture.writer), 0);
        ck_assert_uint_ge(fixture.writer.position, before);
        ck_assert_uint_lt(fixture.writer.position, before + fixture.geometry.data_capacity);
        uint64_t seq = fixture.writer.seq;
        write_many(&fixture.writer, 5);
        for (uint64_t i = seq; i < seq + 5; i++)
            ck_assert_int_eq(read_one(&fixture.ring, i), 1);
    }
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(a_reservation_dies_with_its_worker)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    ring_fixture_open(&fixture, &settings);
    write_many(&fixture.writer, 3);
    ring_rewind(&fixture.writer);
    ring_reserve(&fixture.writer,
                 fixture.geometry.slot_count); /* and here it is killed, before it arms a batch */
    ring_detach(&fixture.ring);
    ring_fixture_attach(&fixture, mappings[_i]);
    for (uint64_t i = 0; i < 3; i++)
        ck_assert_int_eq(read_one(&fixture.ring, i), 1);
    write_many(&fixture.writer, 5);
    for (uint64_t i = 0; i < 8; i++)
        ck_assert_int_eq(read_one(&fixture.ring, i), 1);
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(a_memfd_that_is_too_short_is_refused)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    ring_fixture_make(&fixture, &settings);
    fixture.geometry.total_size += 4096;
    ck_assert_int_eq(ring_attach(&fixture.ring, &fixture.memory, &fixture.geometry, mappings[_i]),
                     -EBADMSG);
    ring_fixture_close(&fixture);
}
END_TEST

/* Bit 63 of a page's word in /proc/self/pagemap (proc(5)): it is in this process's page table. */
static bool is_populated(int pagemap, const void *address)
{
    uint64_t word = 0;
    ssize_t size =
        pread(pagemap, &word, sizeof word, (off_t)((uintptr_t)address / 4096 * sizeof word));
    return size == (ssize_t)sizeof word && word >> 63;
}

static void check_populated(int pagemap, const uint8_t *from, const uint8_t *end)
{
    for (const uint8_t *at = from; at < end; at += 64)
        if (!is_populated(pagemap, at))
            ck_abort_msg("a page of the batch is not there yet");
}

/* A kernel may lose a datagram whose buffer it can't fault in for a process that is being killed.
 */
START_TEST(what_is_reserved_can_be_written_without_a_fault)
{
    struct ring_fixture_settings settings = settings_for(_i);
    settings.ring_size = 512 * 1024;
    settings.max_datagram = 1500;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(pagemap, 0);
    for (int start = 0; start < 8; start++) {
        struct ring_fixture fixture;
        settings.start_position =
            (uint64_t)start * 100 * 1024 / 64 * 64; /* a successor starts anywhere */
        ring_fixture_open(&fixture, &settings);
        const struct ring_map *data = &fixture.ring.data;
        uint32_t slots = fixture.geometry.slot_count, slot_size = fixture.geometry.slot_size;
        const uint8_t *batch = (const uint8_t *)fixture.ring.batch;
        check_populated(pagemap, batch, batch + sizeof *fixture.ring.batch);
        for (int round = 0; round < 60; round++) {
            uint32_t count = 1 + (uint32_t)round * 7 % slots;
            ring_reserve(&fixture.writer, count);
            for (uint32_t slot = 0; slot < count; slot++) {
                const uint8_t *at =
                    ring_map_at(data, fixture.writer.position + (uint64_t)slot * slot_size);
                check_populated(pagemap, at, at + slot_size);
            }
            ring_publish(&fixture.writer, 0, fixture.writer.position + (uint64_t)count * slot_size);
        }
        ck_assert_uint_gt(fixture.writer.position, settings.start_position + 2 * data->capacity);
        ring_fixture_close(&fixture);
    }
    close(pagemap);
}
END_TEST

/* ---- threads ---- */

struct reader {
    struct ring *ring;
    bool slow;
    uint64_t accepted, lapped, torn,
        caught; /* caught: the copy was overtaken and ring_intact() said so */
};

/* Copy in two halves and let the writer go round in between: what ring_intact() then accepts would
 * be torn. */
static bool copy_slowly(const struct reader *reader, const struct ring_datagram *datagram,
                        uint8_t *copy)
{
    const struct ring *ring = reader->ring;
    uint32_t half = datagram->length / 2;
    ring_copy(copy, datagram->data, half);
    for (int i = 0; i < 50 && datagram->seq % 16 == 0 && ring_intact(ring, datagram); i++)
        sched_yield();
    ring_copy(copy + half, datagram->data + half, datagram->length - half);
    return ring_intact(ring, datagram);
}

static void *reader_main(void *argument)
{
    struct reader *reader = argument;
    const struct ring *ring = reader->ring;
    uint8_t copy[MAX_DATAGRAM + 64];
    for (uint64_t seq = 0; seq < THREADED_DATAGRAMS;) {
        struct ring_datagram datagram;
        if (seq >= ring_published(ring)) {
            sched_yield();
            continue;
        }
        bool there = ring_peek(ring, seq, &datagram);
        bool whole = false;
        if (there && reader->slow) {
            whole = copy_slowly(reader, &datagram, copy);
        } else if (there) {
            ring_copy(copy, datagram.data, datagram.length);
            whole = ring_intact(ring, &datagram);
        }
        if (!whole) {
            uint64_t next = ring_oldest(ring, seq + 1);
            reader->caught += there;
            reader->lapped += next - seq;
            seq = next;
            continue;
        }
        reader->torn += datagram.length != length_of(seq) ||
                        !ring_fixture_matches(copy, seq, datagram.length) ||
                        datagram.time_ns != 1000000000ull + seq;
        reader->accepted++;
        seq++;
    }
    return NULL;
}

START_TEST(two_readers_at_different_speeds)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings settings = settings_for(_i);
    pthread_t threads[2];
    ring_fixture_open(&fixture, &settings);
    struct reader readers[2] = {{.ring = &fixture.ring}, {.ring = &fixture.ring, .slow = true}};
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, reader_main, &readers[i]), 0);
    write_many(&fixture.writer, THREADED_DATAGRAMS);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(readers[i].torn, 0);
        ck_assert_uint_gt(readers[i].accepted, 0);
        ck_assert_uint_eq(readers[i].accepted + readers[i].lapped, THREADED_DATAGRAMS);
    }
    ck_assert_uint_gt(readers[1].lapped, 0);
    ck_assert_uint_gt(readers[1].caught, 0);
    ring_fixture_close(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring");
    TCase *alone = tcase_create("one thread");
    TCase *threads = tcase_create("threads");
    tcase_set_timeout(alone, 60);
    tcase_set_timeout(threads, 120);
    tcase_add_test(alone, the_newest_is_found_and_nonsense_is_not_told);
    tcase_add_loop_test(alone, every_field_comes_back, 0, 2);
    tcase_add_loop_test(alone, a_publisher_comes_back, 0, 2);
    tcase_add_loop_test(alone, what_is_not_lapped_is_whole, 0, 2);
    tcase_add_loop_test(alone, positions_and_numbers_near_2_63, 0, 2);
    tcase_add_loop_test(alone, a_lapped_copy_is_noticed, 0, 2);
    tcase_add_loop_test(alone, empty_datagrams_lap_by_number, 0, 2);
    tcase_add_loop_test(alone, the_oldest_is_the_first_with_a_batch_of_slack, 0, 2);
    tcase_add_loop_test(alone, waiting_is_asked_for_exactly_when_it_would_lap, 0, 2);
    tcase_add_loop_test(alone, rewind_goes_to_the_start_and_is_continued, 0, 2);
    tcase_add_loop_test(alone, a_reservation_dies_with_its_worker, 0, 2);
    tcase_add_loop_test(alone, going_back_to_the_front_ends_before_positions_do, 0, 2);
    tcase_add_loop_test(alone, a_memfd_that_is_too_short_is_refused, 0, 2);
    tcase_add_loop_test(alone, what_is_reserved_can_be_written_without_a_fault, 0, 2);
    tcase_add_loop_test(threads, two_readers_at_different_speeds, 0, 2);
    suite_add_tcase(suite, alone);
    suite_add_tcase(suite, threads);
    return unit_run(suite);
}
