/* SPDX-License-Identifier: MIT */
/* Readers that follow a channel through a gate. The story: a recorder writes, rolls, loses, gives
 * up and begins anew; the gate answers late, dies, and comes back; and whatever happens between two
 * looks of the reader, it gets each number once, in order, with the right bytes, or is told what is
 * missing and why. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/fake_gate.h"
#include "tests/lib/live_log.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"

#define PATIENCE_NS (10 * NS_PER_S)

static struct fake_gate gate;
static struct ring_fixture ring, second_ring;
static struct live_log recorder;
static hf *handle;
static hf_reader *reader;
static struct hf_datagram datagram;

static const struct ring_fixture_settings settings = {.ring_size = 1 << 16, .max_datagram = 1000};

static void set_up(void)
{
    fake_gate_start(&gate);
    ring_fixture_open(&ring, &settings);
    pthread_mutex_lock(&gate.lock);
    gate.ring = &ring;
    pthread_mutex_unlock(&gate.lock);
    live_log_open(&recorder, &gate, &ring, 0);
    ck_assert_int_eq(hf_open(&handle, gate.socket), 0);
    reader = NULL;
}

static void tear_down(void)
{
    handle = hf_close(handle);
    fake_gate_stop(&gate);
    live_log_close(&recorder);
    ring_fixture_close(&ring);
    if (second_ring.ring.page)
        ring_fixture_close(&second_ring);
}

static void begin_recording(void)
{
    live_log_roll(&recorder);
    live_log_name(&recorder);
}

static void read_with(unsigned flags, const struct hf_start *start)
{
    int result = hf_read(handle, RING_FIXTURE_CHANNEL, start, flags, &reader);
    ck_assert_msg(result == 0, "hf_read: %s", strerror(-result));
}

/* What comes next, when it comes. */
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
    static uint8_t buffer[65536];
    struct avro_log_record wanted;
    int event = next_event();
    ck_assert_msg(event == HF_DATAGRAM, "event %d at %llu instead of datagram %llu", event,
                  (unsigned long long)datagram.seq, (unsigned long long)seq);
    ck_assert_uint_eq(datagram.seq, seq);
    log_maker_record(LIVE_LOG_SEED, 300, seq, buffer, &wanted);
    ck_assert_uint_eq(datagram.length, wanted.payload_length);
    ck_assert_mem_eq(datagram.data, wanted.payload, wanted.payload_length);
    ck_assert_uint_eq((uint64_t)datagram.time_ns, avro_log_record_time_ns(&wanted));
}

static void expect_range(uint64_t first, uint64_t end)
{
    for (uint64_t seq = first; seq < end; seq++)
        expect_datagram(seq);
}

static void expect_lost(uint64_t seq, uint64_t count, enum hf_why why)
{
    ck_assert_int_eq(next_event(), HF_LOST);
    ck_assert_uint_eq(datagram.seq, seq);
    ck_assert_uint_eq(datagram.lost, count);
    ck_assert_uint_eq(datagram.why, why);
}

/* Caught up: nothing comes, and nothing wakes it. */
static void expect_silence(void)
{
    monotonic until = monotonic_add(monotonic_now(), PATIENCE_NS);
    struct pollfd wait = {.fd = hf_reader_fd(reader), .events = POLLIN};
    do {
        ck_assert_int_eq(hf_next(reader, &datagram), HF_NONE);
        ck_assert_uint_lt(monotonic_now().ns, until.ns);
    } while (poll(&wait, 1, 60) > 0);
}

/* ---- opening ---- */

START_TEST(nobody_there)
{
    hf *other;
    ck_assert_int_eq(hf_open(&other, "/dev/shm/holdfast-there-is-none"), -ENOENT);
    ck_assert_ptr_null(other);
    char path[200];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    ck_assert_int_eq(hf_open(&other, path), -ENAMETOOLONG);
    setenv("HOLDFAST_READ_SOCKET", gate.socket, 1);
    ck_assert_int_eq(hf_open(&other, NULL), 0);
    hf_close(other);
    pthread_mutex_lock(&gate.lock);
    gate.greet_error = EAGAIN;
    pthread_mutex_unlock(&gate.lock);
    ck_assert_int_eq(hf_open(&other, NULL), -EAGAIN);
    begin_recording();
    ck_assert_int_eq(hf_read(handle, RING_FIXTURE_CHANNEL, NULL, HF_OLD, &reader), -EAGAIN);
}
END_TEST

START_TEST(nobody_answers)
{
    hf *other;
    pthread_mutex_lock(&gate.lock);
    gate.deaf = true;
    pthread_mutex_unlock(&gate.lock);
    monotonic begun = monotonic_now();
    ck_assert_int_eq(hf_open(&other, gate.socket), -ETIMEDOUT);
    ck_assert_uint_ge(monotonic_since(monotonic_now(), begun), 2 * NS_PER_S - NS_PER_MS);
    struct hf_channel *channels;
    size_t count;
    ck_assert_int_eq(hf_list(handle, &channels, &count), -ETIMEDOUT);
    ck_assert_int_eq(hf_read(handle, RING_FIXTURE_CHANNEL, NULL, HF_NEW, &reader), -ETIMEDOUT);
    /* The answers come late, and are not taken for those to later requests. */
    pthread_mutex_lock(&gate.lock);
    gate.deaf = false;
    pthread_mutex_unlock(&gate.lock);
    ck_assert_int_eq(hf_list(handle, &channels, &count), 0);
    ck_assert_uint_eq(count, 1);
    free(channels);
}
END_TEST

START_TEST(what_cannot_be_read)
{
    ck_assert_int_eq(hf_read(handle, "another", NULL, HF_OLD, &reader), -ENOENT);
    ck_assert_int_eq(hf_read(handle, "no such/name", NULL, HF_OLD, &reader), -ENOENT);
    pthread_mutex_lock(&gate.lock);
    gate.records = false;
    pthread_mutex_unlock(&gate.lock);
    ck_assert_int_eq(hf_read(handle, NULL, NULL, HF_OLD, &reader), -EOPNOTSUPP);
    ck_assert_int_eq(hf_read(handle, NULL, NULL, HF_JOINED, &reader), -EOPNOTSUPP);
    pthread_mutex_lock(&gate.lock);
    gate.channel_count = 2;
    pthread_mutex_unlock(&gate.lock);
    ck_assert_int_eq(hf_read(handle, NULL, NULL, HF_NEW, &reader), -EINVAL);
}
END_TEST

START_TEST(lists_of_many_pages)
{
    struct hf_channel *channels;
    struct hf_position *positions;
    struct hf_connection *connections;
    struct hf_log *logs;
    size_t count;
    pthread_mutex_lock(&gate.lock);
    gate.channel_count = 130;
    gate.position_count = 129;
    for (size_t i = 0; i < gate.position_count; i++)
        snprintf(gate.positions[i].name, sizeof gate.positions[i].name, "p%03zu", i);
    pthread_mutex_unlock(&gate.lock);
    begin_recording();
    ck_assert_int_eq(hf_list(handle, &channels, &count), 0);
    ck_assert_uint_eq(count, 130);
    for (size_t i = 0; i < count; i++)
        ck_assert_uint_eq(channels[i].end_seq, i);
    free(channels);
    ck_assert_int_eq(hf_position_list(handle, NULL, &positions, &count), 0);
    ck_assert_uint_eq(count, 129);
    ck_assert_str_eq(positions[128].name, "p128");
    free(positions);
    /* Its process is replaced between two requests, and once in the middle of one. */
    fake_gate_kill(&gate);
    ck_assert_int_eq(hf_connection_list(handle, &connections, &count), 0);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(connections[0].pid, (uint32_t)getpid());
    free(connections);
    pthread_mutex_lock(&gate.lock);
    gate.drop_once = true;
    pthread_mutex_unlock(&gate.lock);
    ck_assert_int_eq(hf_log_list(handle, RING_FIXTURE_CHANNEL, &logs, &count), 0);
    ck_assert_uint_eq(count, 1);
    ck_assert_str_eq(logs[0].channel, RING_FIXTURE_CHANNEL);
    ck_assert_uint_eq(logs[0].is_open, 1);
    ck_assert_int_eq(logs[0].fd, -1);
    free(logs);
}
END_TEST

/* ---- following ---- */

START_TEST(old_then_new)
{
    begin_recording();
    live_log_append(&recorder, 700); /* more than one block */
    read_with(HF_JOINED, NULL);
    expect_range(0, 700);
    ck_assert_int_eq(next_event(), HF_LIVE);
    int fd = hf_reader_fd(reader);
    for (uint64_t seq = 700; seq < 800; seq++) {
        expect_silence();
        live_log_append(&recorder, 1);
        expect_datagram(seq);
        if (seq % 10 == 0)
            live_log_lose(&recorder, 0); /* seals the block */
    }
    ck_assert_int_eq(hf_reader_fd(reader), fd);
    struct hf_lag lag;
    ck_assert_int_eq(hf_lag(reader, &lag), 0);
    ck_assert_uint_eq(lag.next_seq, 800);
    ck_assert_uint_eq(lag.end_seq, 800);
    ck_assert_uint_eq(lag.opened_seq, 700);
}
END_TEST

START_TEST(old_ends_where_new_begins)
{
    begin_recording();
    live_log_append(&recorder, 50);
    live_log_lose(&recorder, 7);
    hf_reader *only_new;
    ck_assert_int_eq(hf_read(handle, NULL, NULL, HF_NEW, &only_new), 0);
    read_with(HF_OLD, NULL);
    live_log_append(&recorder, 20);
    expect_range(0, 50);
    expect_lost(50, 7, HF_UNRECORDED);
    ck_assert_int_eq(next_event(), HF_FINISHED);
    ck_assert_int_eq(next_event(), HF_FINISHED);
    reader = hf_reader_close(reader);
    reader = only_new;
    expect_range(57, 77);
    expect_silence();
}
END_TEST

START_TEST(one_segment_after_the_other)
{
    begin_recording();
    live_log_append(&recorder, 10);
    read_with(HF_JOINED, NULL);
    expect_range(0, 10);
    ck_assert_int_eq(next_event(), HF_LIVE);
    /* The slot names the next one before it has a name. */
    live_log_append(&recorder, 5);
    live_log_roll(&recorder);
    live_log_append(&recorder, 5);
    expect_range(10, 15);
    ck_assert_int_eq(hf_next(reader, &datagram), HF_NONE);
    live_log_name(&recorder);
    expect_range(15, 20);
    /* Two rolls between two looks; what a worker wrote before it died lies behind the end. */
    live_log_append(&recorder, 5);
    live_log_write_in_vain(&recorder);
    live_log_roll(&recorder);
    live_log_name(&recorder);
    live_log_append(&recorder, 5);
    live_log_write_in_vain(&recorder);
    live_log_roll(&recorder);
    live_log_name(&recorder);
    live_log_append(&recorder, 5);
    expect_range(20, 35);
    expect_silence();
    /* The first one is sealed while it is read again. */
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_FIRST}), 0);
    expect_range(0, 3);
    live_log_seal(&recorder, 0, recorder.commit.write_offset);
    expect_range(3, 35);
    expect_silence();
}
END_TEST

START_TEST(what_is_missing)
{
    begin_recording();
    live_log_append(&recorder, 10);
    live_log_lose(&recorder, 3); /* inside */
    live_log_append(&recorder, 10);
    live_log_lose(&recorder, 4); /* at its end, and at the beginning of the next one */
    live_log_roll(&recorder);
    recorder.maker.next_seq += 2;
    live_log_name(&recorder);
    live_log_append(&recorder, 10);
    read_with(HF_JOINED, NULL);
    expect_range(0, 10);
    expect_lost(10, 3, HF_UNRECORDED);
    expect_range(13, 23);
    expect_lost(23, 4, HF_UNRECORDED);
    expect_lost(27, 2, HF_UNRECORDED);
    expect_range(29, 39);
    ck_assert_int_eq(next_event(), HF_LIVE);
    /* Live, there is no record behind it that would show it. */
    live_log_lose(&recorder, 6);
    expect_lost(39, 6, HF_UNRECORDED);
    expect_silence();
    reader = hf_reader_close(reader);

    read_with(HF_OLD | HF_STRICT, NULL);
    expect_range(0, 10);
    expect_lost(10, 3, HF_UNRECORDED);
    ck_assert_int_eq(hf_next(reader, &datagram), -ENODATA);
}
END_TEST

/* Retention is faster than the reader. */
START_TEST(what_has_expired)
{
    for (int i = 0; i < 4; i++) {
        begin_recording();
        live_log_append(&recorder, 10);
    }
    read_with(HF_JOINED, NULL);
    expect_range(0, 5);
    pthread_mutex_lock(&gate.lock);
    gate.segment_count = 2;
    gate.segments[0] = gate.segments[2];
    gate.segments[1] = gate.segments[3];
    pthread_mutex_unlock(&gate.lock);
    expect_range(5, 10); /* it has that file */
    expect_lost(10, 10, HF_EXPIRED);
    expect_range(20, 40);
    ck_assert_int_eq(next_event(), HF_LIVE);
    reader = hf_reader_close(reader);

    read_with(HF_OLD, &(struct hf_start){.at = HF_SEQ, .seq = 7});
    expect_lost(7, 13, HF_EXPIRED);
    expect_range(20, 40);
    ck_assert_int_eq(next_event(), HF_FINISHED);
}
END_TEST

/* While the archive changes a damaged file for its copy, neither has a name. */
START_TEST(a_file_that_comes_back)
{
    begin_recording();
    live_log_append(&recorder, 10);
    begin_recording();
    live_log_append(&recorder, 10);
    pthread_mutex_lock(&gate.lock);
    const struct fake_segment away = gate.segments[0];
    gate.segments[0] = gate.segments[1];
    gate.segment_count = 1;
    pthread_mutex_unlock(&gate.lock);
    read_with(HF_JOINED, &(struct hf_start){.at = HF_SEQ, .seq = 0});
    ck_assert_int_eq(hf_next(reader, &datagram), HF_NONE);
    struct pollfd wait = {.fd = hf_reader_fd(reader), .events = POLLIN};
    for (int i = 0; i < 3; i++) { /* it has asked, was answered, and asks again */
        ck_assert_int_eq(poll(&wait, 1, 1000), 1);
        ck_assert_int_eq(hf_next(reader, &datagram), HF_NONE);
    }
    pthread_mutex_lock(&gate.lock);
    gate.segments[1] = gate.segments[0];
    gate.segments[0] = away;
    gate.segment_count = 2;
    pthread_mutex_unlock(&gate.lock);
    expect_range(0, 20);
}
END_TEST

START_TEST(a_segment_that_was_given_up)
{
    begin_recording();
    live_log_append(&recorder, 10);
    read_with(HF_JOINED, NULL);
    expect_range(0, 10);
    ck_assert_int_eq(next_event(), HF_LIVE);
    live_log_append(&recorder, 5);
    live_log_give_up(&recorder);
    expect_range(10, 15);
    expect_silence();
    /* Datagrams are lost, then another segment begins. */
    recorder.maker.next_seq += 5;
    begin_recording();
    live_log_append(&recorder, 5);
    expect_lost(15, 5, HF_UNRECORDED);
    expect_range(20, 25);
    expect_silence();
}
END_TEST

START_TEST(a_damaged_record)
{
    begin_recording();
    live_log_append(&recorder, 20);
    size_t at = recorder.maker.write_offset;
    live_log_append(&recorder, 20);
    live_log_lose(&recorder, 0);
    uint8_t wrong = (uint8_t)~recorder.maker.bytes[at - 3];
    ck_assert_int_eq(fd_write_all(recorder.fd, &wrong, 1, at - 3), 0);
    read_with(HF_OLD, NULL);
    expect_range(0, 19);
    expect_lost(19, 1, HF_DAMAGED);
    expect_range(20, 40);
    ck_assert_int_eq(next_event(), HF_FINISHED);
}
END_TEST

START_TEST(nobody_was_receiving)
{
    begin_recording();
    recorder.maker.other_flags = AVRO_LOG_NOT_COVERED;
    live_log_append(&recorder, 1);
    recorder.maker.other_flags = 0;
    live_log_append(&recorder, 4);
    recorder.maker.other_flags = AVRO_LOG_NOT_COVERED;
    live_log_append(&recorder, 1);
    recorder.maker.other_flags = 0;
    live_log_append(&recorder, 4);
    read_with(HF_JOINED, NULL);
    ck_assert_int_eq(next_event(), HF_DATAGRAM); /* the first one is before all that it knows */
    ck_assert_uint_eq(datagram.seq, 0);
    ck_assert(datagram.flags & HF_FLAG_UNCOVERED);
    expect_range(1, 5);
    expect_lost(5, 0, HF_UNCOVERED);
    ck_assert_int_eq(next_event(), HF_DATAGRAM);
    ck_assert_uint_eq(datagram.seq, 5);
    expect_range(6, 10);
}
END_TEST

/* ---- the gate and the ring come and go ---- */

START_TEST(the_gate_dies)
{
    begin_recording();
    live_log_append(&recorder, 10);
    read_with(HF_JOINED, &(struct hf_start){.at = HF_FIRST, .position = "mine"});
    int fd = hf_reader_fd(reader);
    uint64_t next = 0;
    for (int i = 0; i < 30; i++) {
        if (i % 2)
            fake_gate_kill(&gate);
        expect_range(next, recorder.maker.next_seq);
        next = recorder.maker.next_seq;
        if (i == 0)
            ck_assert_int_eq(next_event(), HF_LIVE);
        fake_gate_kill(&gate);
        live_log_append(&recorder, 3);
        if (i % 5 == 0)
            begin_recording();
        live_log_append(&recorder, 3);
        ck_assert_int_eq(hf_save(reader, next), 0);
    }
    expect_range(next, recorder.maker.next_seq);
    expect_silence();
    ck_assert_int_eq(hf_reader_fd(reader), fd);
}
END_TEST

START_TEST(the_gate_dies_while_all_is_quiet)
{
    begin_recording();
    live_log_append(&recorder, 10);
    read_with(HF_NEW, NULL);
    expect_silence();
    fake_gate_kill(&gate);
    expect_silence();
    live_log_append(&recorder, 10);
    expect_range(10, 20);
    expect_silence();
}
END_TEST

/* Everything of the channel was stopped, and another ring goes on. */
static void change_rings(uint64_t end, uint64_t start_seq)
{
    struct ring_fixture_settings next = settings;
    next.start_seq = start_seq;
    ring_fixture_open(&second_ring, &next);
    second_ring.ring.page->public.pair = 777;
    channel_page_retire(ring.ring.page, RING_REPLACED, end);
}

static void lend(struct ring_fixture *lent, uint64_t number)
{
    pthread_mutex_lock(&gate.lock);
    gate.ring = lent;
    gate.ring_number = number;
    pthread_mutex_unlock(&gate.lock);
}

START_TEST(another_ring)
{
    begin_recording();
    live_log_append(&recorder, 10);
    read_with(HF_JOINED, NULL);
    expect_range(0, 10);
    ck_assert_int_eq(next_event(), HF_LIVE);
    live_log_append(&recorder, 10);
    live_log_write_in_vain(&recorder); /* and is given up with the ring */
    change_rings(23, 23);
    expect_range(10, 20);
    expect_silence();
    lend(&second_ring, 2);
    live_log_move(&recorder, &second_ring, 23);
    begin_recording();
    live_log_append(&recorder, 10);
    expect_lost(20, 3, HF_UNRECORDED);
    expect_range(23, 33);
    expect_silence();
}
END_TEST

/* Everything died, and what was lost at the end of the log was not recorded anywhere: its numbers
 * are given again. */
START_TEST(numbers_that_are_given_again)
{
    begin_recording();
    live_log_append(&recorder, 10);
    live_log_lose(&recorder, 5);
    read_with(HF_JOINED, NULL);
    expect_range(0, 10);
    expect_lost(10, 5, HF_UNRECORDED);
    ck_assert_int_eq(next_event(), HF_LIVE);
    fake_gate_kill(&gate);
    live_log_seal(&recorder, 0, recorder.commit.block_start);
    change_rings(10, 10);
    live_log_move(&recorder, &second_ring, 10);
    lend(&second_ring, 2);
    begin_recording();
    live_log_append(&recorder, 3);
    expect_lost(10, 0, HF_UNCOVERED);
    expect_range(10, 13);
    expect_silence();
}
END_TEST

START_TEST(no_ring_for_a_while)
{
    begin_recording();
    live_log_append(&recorder, 10);
    read_with(HF_JOINED, NULL);
    expect_range(0, 10);
    ck_assert_int_eq(next_event(), HF_LIVE);
    live_log_append(&recorder, 10);
    change_rings(20, 20);
    lend(NULL, 0);
    expect_range(10, 20);
    expect_silence();
    live_log_move(&recorder, &second_ring, 20);
    lend(&second_ring, 2);
    begin_recording();
    live_log_append(&recorder, 10);
    expect_range(20, 30);
    expect_silence();
}
END_TEST

START_TEST(files_without_a_ring)
{
    begin_recording();
    live_log_append(&recorder, 10);
    live_log_lose(&recorder, 0);
    live_log_seal(&recorder, 0, recorder.commit.block_start);
    lend(NULL, 0);
    read_with(HF_OLD, NULL);
    expect_range(0, 10);
    ck_assert_int_eq(next_event(), HF_FINISHED);
    reader = hf_reader_close(reader);
    read_with(HF_JOINED, &(struct hf_start){.at = HF_LAST});
    expect_datagram(9);
    ck_assert_int_eq(next_event(), HF_LIVE);
    expect_silence();
    reader = hf_reader_close(reader);
    read_with(HF_NEW, NULL);
    expect_silence();
    lend(&ring, 3);
    begin_recording();
    live_log_append(&recorder, 1);
    expect_datagram(10);
}
END_TEST

/* ---- where to begin ---- */

static uint64_t first_of(unsigned flags, struct hf_start start)
{
    read_with(flags, &start);
    int event = next_event();
    uint64_t seq = event == HF_DATAGRAM ? datagram.seq : UINT64_MAX;
    reader = hf_reader_close(reader);
    return seq;
}

static int64_t time_of(uint64_t seq)
{
    static uint8_t buffer[1024];
    struct avro_log_record record;
    log_maker_record(LIVE_LOG_SEED, 300, seq, buffer, &record);
    return (int64_t)avro_log_record_time_ns(&record);
}

START_TEST(starts)
{
    for (int i = 0; i < 3; i++) {
        begin_recording();
        live_log_append(&recorder, 300);
    }
    live_log_lose(&recorder, 5);
    ck_assert_uint_eq(first_of(HF_JOINED, (struct hf_start){.at = HF_FIRST}), 0);
    ck_assert_uint_eq(first_of(HF_JOINED, (struct hf_start){.at = HF_LAST}), 899);
    ck_assert_uint_eq(first_of(HF_OLD, (struct hf_start){.at = HF_END}), UINT64_MAX);
    ck_assert_uint_eq(first_of(HF_OLD, (struct hf_start){.at = HF_SEQ, .seq = 450}), 450);
    ck_assert_uint_eq(first_of(HF_NEW, (struct hf_start){.at = HF_SEQ, .seq = 600}), 600);
    ck_assert_uint_eq(first_of(HF_OLD, (struct hf_start){.at = HF_SEQ, .seq = 5000}), UINT64_MAX);
    ck_assert_uint_eq(
        first_of(HF_JOINED, (struct hf_start){.at = HF_TIME, .time_ns = time_of(700)}), 700);
    ck_assert_uint_eq(
        first_of(HF_JOINED, (struct hf_start){.at = HF_TIME, .time_ns = time_of(700) + 1}), 701);
    ck_assert_uint_eq(first_of(HF_JOINED, (struct hf_start){.at = HF_TIME, .time_ns = 0}), 0);
    ck_assert_uint_eq(
        first_of(HF_OLD, (struct hf_start){.at = HF_TIME, .time_ns = time_of(899) + 1}),
        UINT64_MAX);
    read_with(HF_NEW, NULL);
    expect_silence();
    live_log_append(&recorder, 1);
    expect_datagram(905);
}
END_TEST

START_TEST(nothing_recorded_yet)
{
    read_with(HF_JOINED, NULL);
    ck_assert_int_eq(next_event(), HF_LIVE);
    expect_silence();
    begin_recording();
    live_log_append(&recorder, 3);
    expect_range(0, 3);
    reader = hf_reader_close(reader);
    read_with(HF_OLD, NULL);
    expect_range(0, 3);
    ck_assert_int_eq(next_event(), HF_FINISHED);
}
END_TEST

START_TEST(named_positions)
{
    begin_recording();
    live_log_append(&recorder, 20);
    struct hf_start start = {.at = HF_POSITION, .position = "mine"};
    read_with(HF_JOINED, &start);
    expect_range(0, 10);
    hf_reader *other;
    ck_assert_int_eq(hf_read(handle, NULL, &start, HF_JOINED, &other), -EBUSY);
    ck_assert_int_eq(hf_forget(handle, RING_FIXTURE_CHANNEL, "mine"), -EBUSY);
    ck_assert_int_eq(hf_save(reader, 7), 0);
    expect_range(10, 12);
    reader = hf_reader_close(reader);
    read_with(HF_JOINED, &start); /* at once: the gate may not know yet that it is free */
    expect_range(7, 20);
    ck_assert_int_eq(hf_seek(reader, &start), 0);
    expect_datagram(7);
    ck_assert_int_eq(hf_save(reader, 9), 0);
    ck_assert_int_eq(hf_seek(reader, &start), 0);
    expect_datagram(9);
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_POSITION, .position = "other"}),
                     -EINVAL);
    reader = hf_reader_close(reader);
    read_with(HF_OLD, NULL);
    ck_assert_int_eq(hf_save(reader, 1), -EINVAL);
    reader = hf_reader_close(reader);
    int result;
    while ((result = hf_forget(handle, RING_FIXTURE_CHANNEL, "mine")) == -EBUSY)
        poll(NULL, 0, 1);
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(hf_forget(handle, RING_FIXTURE_CHANNEL, "mine"), -ENOENT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("live_reader");
    TCase *tests = tcase_create("live_reader");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, nobody_there);
    tcase_add_test(tests, nobody_answers);
    tcase_add_test(tests, what_cannot_be_read);
    tcase_add_test(tests, lists_of_many_pages);
    tcase_add_test(tests, old_then_new);
    tcase_add_test(tests, old_ends_where_new_begins);
    tcase_add_test(tests, one_segment_after_the_other);
    tcase_add_test(tests, what_is_missing);
    tcase_add_test(tests, what_has_expired);
    tcase_add_test(tests, a_file_that_comes_back);
    tcase_add_test(tests, a_segment_that_was_given_up);
    tcase_add_test(tests, a_damaged_record);
    tcase_add_test(tests, nobody_was_receiving);
    tcase_add_test(tests, the_gate_dies);
    tcase_add_test(tests, the_gate_dies_while_all_is_quiet);
    tcase_add_test(tests, another_ring);
    tcase_add_test(tests, numbers_that_are_given_again);
    tcase_add_test(tests, no_ring_for_a_while);
    tcase_add_test(tests, files_without_a_ring);
    tcase_add_test(tests, starts);
    tcase_add_test(tests, nothing_recorded_yet);
    tcase_add_test(tests, named_positions);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
