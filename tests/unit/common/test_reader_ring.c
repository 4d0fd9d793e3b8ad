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
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/fake_gate.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/ring_fixture.h"

#define PATIENCE_NS (10 * NS_PER_S)

static struct fake_gate gate;
static struct ring_fixture ring, second_ring;
static hf *handle;
static hf_reader *reader;
static struct hf_datagram datagram;

static const struct ring_fixture_settings usual = {.ring_size = 1 << 16, .max_datagram = 1000};

static void set_up_with(const struct ring_fixture_settings *settings)
{
    fake_gate_start(&gate);
    ring_fixture_open(&ring, settings);
    pthread_mutex_lock(&gate.lock);
    gate.ring = &ring;
    gate.records = false;
    pthread_mutex_unlock(&gate.lock);
    ck_assert_int_eq(hf_open(&handle, gate.socket), 0);
}

static void set_up(void)
{
    set_up_with(&usual);
}

static void tear_down(void)
{
    handle = hf_close(handle);
    fake_gate_stop(&gate);
    ring_fixture_close(&ring);
    if (second_ring.ring.page)
        ring_fixture_close(&second_ring);
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

static int next_event(void)
{
    monotonic deadline = monotonic_add(monotonic_now(), PATIENCE_NS);
    for (;;) {
        int result = hf_next(reader, &datagram);
        if (result != HF_NONE)
            return result;
        ck_assert_msg(monotonic_now().ns < deadline.ns, "nothing comes");
        struct pollfd wait = {.fd = hf_reader_fd(reader), .events = POLLIN};
        poll(&wait, 1, 1000);
    }
}

static void expect_datagram(uint64_t seq)
{
    static const uint8_t localhost[] = {127, 0, 0, 1};
    const struct sockaddr_in *source = (const struct sockaddr_in *)&datagram.source;
    ck_assert_int_eq(next_event(), HF_DATAGRAM);
    ck_assert_uint_eq(datagram.seq, seq);
    ck_assert_uint_eq(datagram.length, length_of(seq));
    ck_assert(ring_fixture_matches(datagram.data, seq, datagram.length));
    ck_assert_int_eq(datagram.source.ss_family, AF_INET);
    ck_assert_mem_eq(&source->sin_addr, localhost, sizeof localhost);
    ck_assert_int_eq(ntohs(source->sin_port), 4242);
    ck_assert_int_eq(hf_check(reader, &datagram), 1);
}

static void expect_silence(void)
{
    struct pollfd wait = {.fd = hf_reader_fd(reader), .events = POLLIN};
    do
        ck_assert_int_eq(hf_next(reader, &datagram), HF_NONE);
    while (poll(&wait, 1, 60) > 0);
}

static void read_with(unsigned flags, const struct hf_start *start)
{
    ck_assert_int_eq(hf_read(handle, RING_FIXTURE_CHANNEL, start, flags, &reader), 0);
}

START_TEST(the_newest)
{
    publish(&ring, 10);
    read_with(HF_NEWEST, NULL);
    expect_silence();
    publish(&ring, 1);
    expect_datagram(10);
    ck_assert_uint_eq(datagram.lost, 0);
    publish(&ring, 5);
    expect_datagram(15);
    ck_assert_uint_eq(datagram.lost, 4);
    expect_silence();
    publish(&ring, 1);
    expect_datagram(16);
    ck_assert_uint_eq(datagram.lost, 0);
    reader = hf_reader_close(reader);
    read_with(HF_NEWEST, &(struct hf_start){.at = HF_LAST});
    expect_datagram(16);
    ck_assert_uint_eq(datagram.lost, 0);
    struct hf_lag lag;
    ck_assert_int_eq(hf_lag(reader, &lag), 0);
    ck_assert_uint_eq(lag.end_seq, 17);
}
END_TEST

/* It points into the ring, so it may go at any time. */
START_TEST(the_newest_is_overwritten)
{
    publish(&ring, 3);
    read_with(HF_NEWEST, &(struct hf_start){.at = HF_LAST});
    expect_datagram(2);
    publish(&ring, 20);
    ck_assert_int_eq(hf_check(reader, &datagram), 1);
    publish(&ring, 500);
    ck_assert_int_eq(hf_check(reader, &datagram), 0);
}
END_TEST

START_TEST(each_one_across_the_end)
{
    read_with(HF_NEW, NULL);
    for (uint64_t seq = 0; seq < 1000; seq++) {
        publish(&ring, 1);
        expect_datagram(seq);
    }
    expect_silence();
}
END_TEST

START_TEST(each_one_of_a_mirror)
{
    struct ring_fixture_settings settings = usual;
    settings.mapping = RING_MAPPING_MIRROR;
    set_up_with(&settings);
    read_with(HF_NEW, NULL);
    for (uint64_t seq = 0; seq < 1000; seq += 5) {
        publish(&ring, 5);
        for (uint64_t i = 0; i < 5; i++)
            expect_datagram(seq + i);
    }
    tear_down();
}
END_TEST

START_TEST(lapped)
{
    read_with(HF_NEW, NULL);
    publish(&ring, 1000);
    ck_assert_int_eq(next_event(), HF_LOST);
    ck_assert_int_eq(datagram.why, HF_LAPPED);
    ck_assert_uint_eq(datagram.seq, 0);
    ck_assert_uint_gt(datagram.lost, 500);
    for (uint64_t seq = datagram.lost; seq < 1000; seq++)
        expect_datagram(seq);
    expect_silence();
}
END_TEST

/* ---- another ring ---- */

static void change_rings(uint64_t start_seq)
{
    struct ring_fixture_settings settings = usual;
    settings.start_seq = start_seq;
    ring_fixture_open(&second_ring, &settings);
    second_ring.ring.page->public.pair = 777;
    channel_page_retire(ring.ring.page, RING_REPLACED, ring.writer.seq);
    pthread_mutex_lock(&gate.lock);
    gate.ring = &second_ring;
    gate.ring_number = 2;
    pthread_mutex_unlock(&gate.lock);
}

START_TEST(another_ring)
{
    read_with(HF_NEW, NULL);
    publish(&ring, 10);
    for (uint64_t seq = 0; seq < 7; seq++)
        expect_datagram(seq);
    change_rings(12);
    publish(&second_ring, 5);
    /* What is in a ring that was given up may be gone. */
    ck_assert_int_eq(next_event(), HF_LOST);
    ck_assert_uint_eq(datagram.seq, 7);
    ck_assert_uint_eq(datagram.lost, 3);
    ck_assert_int_eq(next_event(), HF_LOST);
    ck_assert_uint_eq(datagram.seq, 10);
    ck_assert_uint_eq(datagram.lost, 2);
    for (uint64_t seq = 12; seq < 17; seq++)
        expect_datagram(seq);
    expect_silence();
}
END_TEST

/* Nothing is recorded, so nobody knew where the numbers were. */
START_TEST(numbers_begin_anew)
{
    read_with(HF_NEW, NULL);
    publish(&ring, 10);
    for (uint64_t seq = 0; seq < 10; seq++)
        expect_datagram(seq);
    change_rings(0);
    publish(&second_ring, 3);
    ck_assert_int_eq(next_event(), HF_LOST);
    ck_assert_int_eq(datagram.why, HF_UNCOVERED);
    ck_assert_uint_eq(datagram.lost, 0);
    for (uint64_t seq = 0; seq < 3; seq++)
        expect_datagram(seq);
}
END_TEST

START_TEST(retired_and_the_gate_dies)
{
    read_with(HF_NEWEST, NULL);
    publish(&ring, 10);
    expect_datagram(9);
    fake_gate_kill(&gate);
    expect_silence();
    change_rings(10);
    fake_gate_kill(&gate);
    publish(&second_ring, 3);
    expect_datagram(12);
    ck_assert_uint_eq(datagram.lost, 2);
    expect_silence();
}
END_TEST

/* ---- a writer at full speed ---- */

static atomic_bool stop;

static void *write_on(void *data)
{
    (void)data;
    while (!atomic_load(&stop))
        publish(&ring, 1);
    return NULL;
}

START_TEST(a_writer_that_never_waits)
{
    pthread_t writer;
    uint64_t next = 0, seen = 0, lost = 0;
    read_with(_i ? HF_NEWEST : HF_NEW, NULL);
    atomic_store(&stop, false);
    ck_assert_int_eq(pthread_create(&writer, NULL, write_on, NULL), 0);
    while (seen < 20000) {
        int event = next_event();
        if (event == HF_LOST) {
            ck_assert_uint_eq(datagram.seq, next);
            next += datagram.lost;
            lost += datagram.lost;
            continue;
        }
        ck_assert_int_eq(event, HF_DATAGRAM);
        if (_i)
            next = datagram.seq;
        ck_assert_uint_eq(datagram.seq, next++);
        bool whole = datagram.length == length_of(datagram.seq) &&
                     ring_fixture_matches(datagram.data, datagram.seq, datagram.length);
        ck_assert(whole || !hf_check(reader, &datagram));
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
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, the_newest);
    tcase_add_test(tests, the_newest_is_overwritten);
    tcase_add_test(tests, each_one_across_the_end);
    tcase_add_test(tests, lapped);
    tcase_add_test(tests, another_ring);
    tcase_add_test(tests, numbers_begin_anew);
    tcase_add_test(tests, retired_and_the_gate_dies);
    tcase_add_loop_test(tests, a_writer_that_never_waits, 0, 2);
    suite_add_tcase(suite, tests);
    tcase_set_timeout(others, 120);
    tcase_add_test(others, each_one_of_a_mirror);
    suite_add_tcase(suite, others);
    return log_maker_run(suite);
}
