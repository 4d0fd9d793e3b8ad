/* SPDX-License-Identifier: MIT */
/* Readers that get datagrams out of a channel's ring. The story: the writer never waits for them,
 * so they are lapped, in the middle of a datagram too; the ring is retired and replaced; and what
 * they are given is whole, or is said to be lost. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/reader_scene.h"

static const struct ring_fixture_settings usual = {.ring_size = 1 << 16, .max_datagram = 1000};

static void set_up(void)
{
    reader_scene_begin_without_log(&usual);
}

static uint32_t length_of(uint64_t seq)
{
    return (uint32_t)(seq * 131 % 1000) + 1;
}

static void publish(struct ring_fixture *to, unsigned count)
{
    uint8_t payload[1000];
    for (unsigned i = 0; i < count; i++) {
        uint64_t seq = to->writer.seq;
        ring_fixture_fill(payload, seq, length_of(seq));
        ring_fixture_write(&to->writer, payload, length_of(seq));
    }
}

static void expect_datagram(uint64_t seq)
{
    static const uint8_t localhost[] = {127, 0, 0, 1};
    const struct sockaddr_in *source = (const struct sockaddr_in *)&scene.datagram.source;
    ck_assert_int_eq(reader_scene_next(), HF_DATAGRAM);
    ck_assert_uint_eq(scene.datagram.seq, seq);
    ck_assert_uint_eq(scene.datagram.length, length_of(seq));
    ck_assert(ring_fixture_matches(scene.datagram.data, seq, scene.datagram.length));
    ck_assert_int_eq(scene.datagram.source.ss_family, AF_INET);
    ck_assert_mem_eq(&source->sin_addr, localhost, sizeof localhost);
    ck_assert_int_eq(ntohs(source->sin_port), 4242);
    ck_assert_int_eq(hf_check(scene.reader, &scene.datagram), 1);
}

START_TEST(the_newest_of_a_publisher)
{
    union socket_address source;
    uint64_t words[2], origin;
    socket_address_local(1000, 4711, "fifteen-letters", &source);
    ring_local_words(&source, words, &origin);
    reader_scene_read(HF_NEWEST, NULL);
    reader_scene_expect_silence();
    uint64_t seq = scene.ring.writer.seq;
    publish(&scene.ring, 1);
    struct ring_descriptor *descriptor =
        &scene.ring.ring.descriptors[seq % scene.ring.geometry.descriptor_count];
    atomic_store(&descriptor->address[0], words[0]);
    atomic_store(&descriptor->address[1], words[1]);
    atomic_store(&descriptor->origin, origin);
    ck_assert_int_eq(reader_scene_next(), HF_DATAGRAM);
    ck_assert_uint_eq(scene.datagram.seq, seq);
    ck_assert_int_eq(scene.datagram.source.ss_family, AF_UNIX);
    ck_assert_str_eq(((const struct sockaddr_un *)&scene.datagram.source)->sun_path,
                     "local:1000/4711/fifteen-letter");
}
END_TEST

START_TEST(the_newest)
{
    publish(&scene.ring, 10);
    reader_scene_read(HF_NEWEST, NULL);
    reader_scene_expect_silence();
    publish(&scene.ring, 1);
    expect_datagram(10);
    ck_assert_uint_eq(scene.datagram.lost, 0);
    publish(&scene.ring, 5);
    expect_datagram(15);
    ck_assert_uint_eq(scene.datagram.lost, 4);
    reader_scene_expect_silence();
    publish(&scene.ring, 1);
    expect_datagram(16);
    ck_assert_uint_eq(scene.datagram.lost, 0);
    reader_scene_close_reader();
    reader_scene_read(HF_NEWEST, &(struct hf_start){.at = HF_LAST});
    expect_datagram(16);
    ck_assert_uint_eq(scene.datagram.lost, 0);
    struct hf_lag lag;
    ck_assert_int_eq(hf_lag(scene.reader, &lag), 0);
    ck_assert_uint_eq(lag.end_seq, 17);
}
END_TEST

/* It points into the ring, so it may go at any time. */
START_TEST(the_newest_is_overwritten)
{
    publish(&scene.ring, 3);
    reader_scene_read(HF_NEWEST, &(struct hf_start){.at = HF_LAST});
    expect_datagram(2);
    publish(&scene.ring, 20);
    ck_assert_int_eq(hf_check(scene.reader, &scene.datagram), 1);
    publish(&scene.ring, 500);
    ck_assert_int_eq(hf_check(scene.reader, &scene.datagram), 0);
}
END_TEST

START_TEST(each_one_across_the_end)
{
    reader_scene_read(HF_NEW, NULL);
    for (uint64_t seq = 0; seq < 1000; seq++) {
        publish(&scene.ring, 1);
        expect_datagram(seq);
    }
    reader_scene_expect_silence();
}
END_TEST

START_TEST(each_one_of_a_mirror)
{
    struct ring_fixture_settings settings = usual;
    settings.mapping = RING_MAPPING_MIRROR;
    reader_scene_begin_without_log(&settings);
    reader_scene_read(HF_NEW, NULL);
    for (uint64_t seq = 0; seq < 1000; seq += 5) {
        publish(&scene.ring, 5);
        for (uint64_t i = 0; i < 5; i++)
            expect_datagram(seq + i);
    }
    reader_scene_end();
}
END_TEST

START_TEST(lapped)
{
    reader_scene_read(HF_NEW, NULL);
    publish(&scene.ring, 1000);
    ck_assert_int_eq(reader_scene_next(), HF_LOST);
    ck_assert_int_eq(scene.datagram.why, HF_LAPPED);
    ck_assert_uint_eq(scene.datagram.seq, 0);
    ck_assert_uint_gt(scene.datagram.lost, 500);
    for (uint64_t seq = scene.datagram.lost; seq < 1000; seq++)
        expect_datagram(seq);
    reader_scene_expect_silence();
}
END_TEST

/* ---- another ring ---- */

static void replace_ring(uint64_t start_seq)
{
    reader_scene_change_rings(scene.ring.writer.seq, start_seq);
    reader_scene_lend(&scene.second_ring, 2);
}

START_TEST(another_ring)
{
    reader_scene_read(HF_NEW, NULL);
    publish(&scene.ring, 10);
    for (uint64_t seq = 0; seq < 7; seq++)
        expect_datagram(seq);
    replace_ring(12);
    publish(&scene.second_ring, 5);
    /* What is in a ring that was given up may be gone. */
    ck_assert_int_eq(reader_scene_next(), HF_LOST);
    ck_assert_uint_eq(scene.datagram.seq, 7);
    ck_assert_uint_eq(scene.datagram.lost, 3);
    ck_assert_int_eq(reader_scene_next(), HF_LOST);
    ck_assert_uint_eq(scene.datagram.seq, 10);
    ck_assert_uint_eq(scene.datagram.lost, 2);
    for (uint64_t seq = 12; seq < 17; seq++)
        expect_datagram(seq);
    reader_scene_expect_silence();
}
END_TEST

/* Nothing is recorded, so nobody knew where the numbers were. */
START_TEST(numbers_begin_anew)
{
    reader_scene_read(HF_NEW, NULL);
    publish(&scene.ring, 10);
    for (uint64_t seq = 0; seq < 10; seq++)
        expect_datagram(seq);
    replace_ring(0);
    publish(&scene.second_ring, 3);
    ck_assert_int_eq(reader_scene_next(), HF_LOST);
    ck_assert_int_eq(scene.datagram.why, HF_UNCOVERED);
    ck_assert_uint_eq(scene.datagram.lost, 0);
    for (uint64_t seq = 0; seq < 3; seq++)
        expect_datagram(seq);
}
END_TEST

START_TEST(sought_back_while_it_sleeps)
{
    publish(&scene.ring, 5);
    reader_scene_read(_i ? HF_NEWEST : HF_NEW, NULL);
    ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_SEQ, .seq = 1000}), 0);
    reader_scene_expect_silence();
    ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_END}), 0);
    reader_scene_expect_silence();
    publish(&scene.ring, 3);
    reader_scene_expect_wake();
    expect_datagram(_i ? 7 : 5);
}
END_TEST

/* It is of another version, say; and more comes into it all the time. */
START_TEST(a_ring_that_can_not_be_mapped)
{
    publish(&scene.ring, 5);
    reader_scene_read(_i ? HF_NEWEST : HF_NEW, NULL);
    reader_scene_expect_silence();
    ring_fixture_open(&scene.second_ring, &scene.settings);
    publish(&scene.second_ring, 8);
    memset(&scene.second_ring.ring.page->public, 0xee, 64);
    channel_page_retire(scene.ring.ring.page, RING_REPLACED, 5);
    reader_scene_lend(&scene.second_ring, 2);
    ck_assert_uint_lt(reader_scene_count_requests(READ_ATTACH), 20);
    ck_assert_uint_lt(reader_scene_count_requests(READ_ARM), 20);
}
END_TEST

START_TEST(retired_before_the_newest_was_read)
{
    publish(&scene.ring, 5);
    reader_scene_read(HF_NEWEST, NULL);
    reader_scene_expect_silence();
    publish(&scene.ring, 5);
    channel_page_retire(scene.ring.ring.page, RING_REPLACED, 10);
    ck_assert_uint_lt(reader_scene_count_requests(READ_ARM), 20);
}
END_TEST

/* Until another one comes it is looked at again, but not all the time. */
START_TEST(the_newest_is_nonsense)
{
    publish(&scene.ring, 5);
    reader_scene_read(HF_NEWEST, NULL);
    reader_scene_expect_silence();
    publish(&scene.ring, 1);
    uint8_t *base = (uint8_t *)&scene.ring.ring.page->public;
    memset((struct ring_descriptor *)(base + scene.ring.geometry.descriptor_offset) + 5, 0xff,
           sizeof(struct ring_descriptor));
    struct pollfd wait = {.fd = hf_reader_fd(scene.reader), .events = POLLIN};
    const monotonic until = monotonic_add(monotonic_now(), NS_PER_S);
    unsigned turns = 0;
    for (; monotonic_now().ns < until.ns; turns++) {
        ck_assert_int_eq(hf_next(scene.reader, &scene.datagram), HF_NONE);
        poll(&wait, 1, 1000);
    }
    ck_assert_uint_lt(turns, 2000);
    publish(&scene.ring, 1);
    expect_datagram(6);
}
END_TEST

/* The gate has died with everything else, so nobody wakes a reader of the ring before. */
START_TEST(numbers_begin_anew_behind_another_gate)
{
    struct ring_fixture_settings settings = scene.settings;
    settings.start_seq = 0;
    reader_scene_read(_i ? HF_NEWEST : HF_NEW, NULL);
    publish(&scene.ring, 10);
    for (uint64_t seq = _i ? 9 : 0; seq < 10; seq++)
        expect_datagram(seq);
    reader_scene_expect_silence();
    ring_fixture_open(&scene.second_ring, &settings);
    scene.second_ring.ring.page->public.pair = 777;
    fake_gate_kill(&scene.gate);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_expect_lost(0, 0, HF_UNCOVERED);
    reader_scene_expect_silence();
    publish(&scene.second_ring, 3);
    for (uint64_t seq = _i ? 2 : 0; seq < 3; seq++)
        expect_datagram(seq);
}
END_TEST

/* ... and the new ring has more of them already, whether anything of the one before was read or
 * not.
 */
START_TEST(numbers_begin_anew_and_are_passed)
{
    publish(&scene.ring, 5);
    reader_scene_read(HF_NEW, NULL);
    publish(&scene.ring, 5);
    for (uint64_t seq = 5; seq < 10 && _i; seq++)
        expect_datagram(seq);
    replace_ring(0);
    publish(&scene.second_ring, 15);
    if (!_i)
        reader_scene_expect_lost(5, 5, HF_LAPPED);
    reader_scene_expect_lost(0, 0, HF_UNCOVERED);
    for (uint64_t seq = 0; seq < 15; seq++)
        expect_datagram(seq);
    reader_scene_expect_silence();
}
END_TEST

/* Nothing was passed: the number that it waits for comes yet. */
START_TEST(a_number_that_is_waited_for)
{
    publish(&scene.ring, 5);
    reader_scene_read(HF_NEW, &(struct hf_start){.at = HF_SEQ, .seq = 20});
    reader_scene_expect_silence();
    replace_ring(5);
    publish(&scene.second_ring, 10);
    reader_scene_expect_silence();
    publish(&scene.second_ring, 10);
    for (uint64_t seq = 20; seq < 25; seq++)
        expect_datagram(seq);
}
END_TEST

START_TEST(retired_and_the_gate_dies)
{
    reader_scene_read(HF_NEWEST, NULL);
    publish(&scene.ring, 10);
    expect_datagram(9);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_silence();
    replace_ring(10);
    fake_gate_kill(&scene.gate);
    publish(&scene.second_ring, 3);
    expect_datagram(12);
    ck_assert_uint_eq(scene.datagram.lost, 2);
    reader_scene_expect_silence();
}
END_TEST

/* ---- a writer at full speed ---- */

static atomic_bool stop;

static void *write_on(void *data)
{
    (void)data;
    while (!atomic_load(&stop))
        publish(&scene.ring, 1);
    return NULL;
}

START_TEST(a_writer_that_never_waits)
{
    pthread_t writer;
    uint64_t next = 0, seen = 0, lost = 0;
    reader_scene_read(_i ? HF_NEWEST : HF_NEW, NULL);
    atomic_store(&stop, false);
    ck_assert_int_eq(pthread_create(&writer, NULL, write_on, NULL), 0);
    while (seen < 20000) {
        int event = reader_scene_next();
        if (event == HF_LOST) {
            ck_assert_uint_eq(scene.datagram.seq, next);
            next += scene.datagram.lost;
            lost += scene.datagram.lost;
            continue;
        }
        ck_assert_int_eq(event, HF_DATAGRAM);
        if (_i)
            next = scene.datagram.seq;
        ck_assert_uint_eq(scene.datagram.seq, next++);
        bool whole =
            scene.datagram.length == length_of(scene.datagram.seq) &&
            ring_fixture_matches(scene.datagram.data, scene.datagram.seq, scene.datagram.length);
        ck_assert(whole || !hf_check(scene.reader, &scene.datagram));
        ck_assert(whole || _i); /* copies are whole when they are returned */
        seen += whole;
    }
    atomic_store(&stop, true);
    pthread_join(writer, NULL);
    ck_assert(_i || seen + lost == next); /* what it did not get, it was told of */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reader_ring");
    TCase *tests = tcase_create("reader_ring"), *others = tcase_create("others");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, reader_scene_end);
    tcase_add_test(tests, the_newest);
    tcase_add_test(tests, the_newest_of_a_publisher);
    tcase_add_test(tests, the_newest_is_overwritten);
    tcase_add_test(tests, each_one_across_the_end);
    tcase_add_test(tests, lapped);
    tcase_add_test(tests, another_ring);
    tcase_add_loop_test(tests, sought_back_while_it_sleeps, 0, 2);
    tcase_add_loop_test(tests, a_ring_that_can_not_be_mapped, 0, 2);
    tcase_add_test(tests, retired_before_the_newest_was_read);
    tcase_add_test(tests, the_newest_is_nonsense);
    tcase_add_test(tests, numbers_begin_anew);
    tcase_add_loop_test(tests, numbers_begin_anew_behind_another_gate, 0, 2);
    tcase_add_loop_test(tests, numbers_begin_anew_and_are_passed, 0, 2);
    tcase_add_test(tests, a_number_that_is_waited_for);
    tcase_add_test(tests, retired_and_the_gate_dies);
    tcase_add_loop_test(tests, a_writer_that_never_waits, 0, 2);
    suite_add_tcase(suite, tests);
    tcase_set_timeout(others, 120);
    tcase_add_test(others, each_one_of_a_mirror);
    suite_add_tcase(suite, others);
    return log_maker_run(suite);
}
