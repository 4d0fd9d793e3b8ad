/* SPDX-License-Identifier: MIT */
/* Readers that follow a channel through a gate. The story: a recorder writes, rolls, loses, gives
 * up and begins anew; the gate answers late, dies, and comes back; and whatever happens between two
 * looks of the reader, it gets each number once, in order, with the right bytes, or is told what is
 * missing and why. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/reader_scene.h"
#include "tests/lib/unit.h"

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
    setenv("HOLDFAST_READ_SOCKET", scene.gate.socket, 1);
    ck_assert_int_eq(hf_open(&other, NULL), 0);
    hf_close(other);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.greet_error = EAGAIN;
    pthread_mutex_unlock(&scene.gate.lock);
    ck_assert_int_eq(hf_open(&other, NULL), -EAGAIN);
    reader_scene_begin_segment();
    ck_assert_int_eq(hf_read(scene.handle, RING_FIXTURE_CHANNEL, NULL, HF_OLD, &scene.reader),
                     -EAGAIN);
}
END_TEST

static void turn_away(unsigned count)
{
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.turns_away = count;
    pthread_mutex_unlock(&scene.gate.lock);
}

/* A record, or the end of the gate, is there to be noticed; saving must not take the notice away.
 */
START_TEST(what_comes_while_it_saves_is_told)
{
    const struct hf_start start = {.at = HF_POSITION, .position = "mine"};
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_read(HF_JOINED, &start);
    reader_scene_expect_records(0, 10);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_expect_silence();
    struct pollfd wait = {.fd = hf_reader_fd(scene.reader), .events = POLLIN};
    if (_i == 0)
        live_log_append(&scene.recorder, 1);
    else
        fake_gate_kill(&scene.gate);
    reader_scene_expect_wake();
    ck_assert_int_eq(hf_save(scene.reader, 10), 0);
    if (_i == 1)
        live_log_append(&scene.recorder, 1);
    reader_scene_expect_wake();
    reader_scene_expect_record(10);
    reader_scene_expect_silence();
    ck_assert_int_eq(hf_save(scene.reader, 11), 0);
    ck_assert_int_eq(poll(&wait, 1, 0), 0); /* nothing has come */
}
END_TEST

/* It was armed for a number that is far away; now it waits for a nearer one. */
START_TEST(sought_back_while_it_sleeps)
{
    reader_scene_go_live();
    ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_SEQ, .seq = 1000}), 0);
    reader_scene_expect_silence();
    ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_END}), 0);
    reader_scene_expect_silence();
    live_log_append(&scene.recorder, 3);
    reader_scene_expect_wake();
    reader_scene_expect_records(10, 13);
}
END_TEST

/* There are too many connections just now. */
START_TEST(whoever_is_turned_away_comes_again)
{
    hf *other;
    turn_away(3);
    ck_assert_int_eq(hf_open(&other, scene.gate.socket), 0);
    hf_close(other);
    turn_away(1u << 30);
    ck_assert_int_eq(hf_open(&other, scene.gate.socket), -EBUSY);
    ck_assert_int_eq(hf_read(scene.handle, RING_FIXTURE_CHANNEL, NULL, HF_NEW, &scene.reader),
                     -EBUSY);
    turn_away(3);
    reader_scene_begin_segment();
    reader_scene_go_live();
}
END_TEST

START_TEST(nobody_answers)
{
    hf *other;
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.deaf = true;
    pthread_mutex_unlock(&scene.gate.lock);
    monotonic begun = monotonic_now();
    ck_assert_int_eq(hf_open(&other, scene.gate.socket), -ETIMEDOUT);
    ck_assert_uint_ge(monotonic_since(monotonic_now(), begun), 2 * NS_PER_S - NS_PER_MS);
    struct hf_channel *channels;
    size_t count;
    ck_assert_int_eq(hf_list(scene.handle, &channels, &count), -ETIMEDOUT);
    ck_assert_int_eq(hf_read(scene.handle, RING_FIXTURE_CHANNEL, NULL, HF_NEW, &scene.reader),
                     -ETIMEDOUT);
    /* The answers come late, and are not taken for those to later requests. */
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.deaf = false;
    pthread_mutex_unlock(&scene.gate.lock);
    ck_assert_int_eq(hf_list(scene.handle, &channels, &count), 0);
    ck_assert_uint_eq(count, 1);
    free(channels);
}
END_TEST

START_TEST(what_cannot_be_read)
{
    ck_assert_int_eq(hf_read(scene.handle, "another", NULL, HF_OLD, &scene.reader), -ENOENT);
    ck_assert_int_eq(hf_read(scene.handle, "no such/name", NULL, HF_OLD, &scene.reader), -ENOENT);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.records = false;
    pthread_mutex_unlock(&scene.gate.lock);
    ck_assert_int_eq(hf_read(scene.handle, NULL, NULL, HF_OLD, &scene.reader), -EOPNOTSUPP);
    ck_assert_int_eq(hf_read(scene.handle, NULL, NULL, HF_JOINED, &scene.reader), -EOPNOTSUPP);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.channel_count = 2;
    pthread_mutex_unlock(&scene.gate.lock);
    ck_assert_int_eq(hf_read(scene.handle, NULL, NULL, HF_NEW, &scene.reader), -EINVAL);
}
END_TEST

START_TEST(lists_of_many_pages)
{
    struct hf_channel *channels;
    struct hf_position *positions;
    struct hf_connection *connections;
    struct hf_log *logs;
    size_t count;
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.channel_count = 130;
    scene.gate.position_count = 129;
    for (size_t i = 0; i < scene.gate.position_count; i++)
        snprintf(scene.gate.positions[i].name, sizeof scene.gate.positions[i].name, "p%03zu", i);
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_begin_segment();
    ck_assert_int_eq(hf_list(scene.handle, &channels, &count), 0);
    ck_assert_uint_eq(count, 130);
    for (size_t i = 0; i < count; i++)
        ck_assert_uint_eq(channels[i].end_seq, i);
    free(channels);
    ck_assert_int_eq(hf_position_list(scene.handle, NULL, &positions, &count), 0);
    ck_assert_uint_eq(count, 129);
    ck_assert_str_eq(positions[128].name, "p128");
    free(positions);
    /* Its process is replaced between two requests, and once in the middle of one. */
    fake_gate_kill(&scene.gate);
    ck_assert_int_eq(hf_connection_list(scene.handle, &connections, &count), 0);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(connections[0].pid, (uint32_t)getpid());
    free(connections);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.drop_once = true;
    pthread_mutex_unlock(&scene.gate.lock);
    ck_assert_int_eq(hf_log_list(scene.handle, RING_FIXTURE_CHANNEL, &logs, &count), 0);
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
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 700); /* more than one block */
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 700);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    int fd = hf_reader_fd(scene.reader);
    for (uint64_t seq = 700; seq < 800; seq++) {
        reader_scene_expect_nothing_yet();
        live_log_append(&scene.recorder, 1);
        reader_scene_expect_record(seq);
        if (seq % 10 == 0)
            live_log_lose(&scene.recorder, 0); /* seals the block */
    }
    ck_assert_int_eq(hf_reader_fd(scene.reader), fd);
    struct hf_lag lag;
    ck_assert_int_eq(hf_lag(scene.reader, &lag), 0);
    ck_assert_uint_eq(lag.next_seq, 800);
    ck_assert_uint_eq(lag.end_seq, 800);
    ck_assert_uint_eq(lag.opened_seq, 700);
}
END_TEST

START_TEST(old_ends_where_new_begins)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 50);
    live_log_lose(&scene.recorder, 7);
    hf_reader *only_new;
    ck_assert_int_eq(hf_read(scene.handle, NULL, NULL, HF_NEW, &only_new), 0);
    reader_scene_read(HF_OLD, NULL);
    live_log_append(&scene.recorder, 20);
    reader_scene_expect_records(0, 50);
    reader_scene_expect_lost(50, 7, HF_UNRECORDED);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
    reader_scene_close_reader();
    scene.reader = only_new;
    reader_scene_expect_records(57, 77);
    reader_scene_expect_silence();
}
END_TEST

START_TEST(one_segment_after_the_other)
{
    reader_scene_go_live();
    /* The slot names the next one before it has a name. */
    live_log_append(&scene.recorder, 5);
    live_log_roll(&scene.recorder);
    live_log_append(&scene.recorder, 5);
    reader_scene_expect_records(10, 15);
    ck_assert_int_eq(hf_next(scene.reader, &scene.datagram), HF_NONE);
    live_log_name(&scene.recorder);
    reader_scene_expect_records(15, 20);
    /* Two rolls between two looks; what a worker wrote before it died lies behind the end. */
    live_log_append(&scene.recorder, 5);
    live_log_write_in_vain(&scene.recorder);
    live_log_roll(&scene.recorder);
    live_log_name(&scene.recorder);
    live_log_append(&scene.recorder, 5);
    live_log_write_in_vain(&scene.recorder);
    live_log_roll(&scene.recorder);
    live_log_name(&scene.recorder);
    live_log_append(&scene.recorder, 5);
    reader_scene_expect_records(20, 35);
    reader_scene_expect_silence();
    /* The first one is sealed while it is read again. */
    ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_FIRST}), 0);
    reader_scene_expect_records(0, 3);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.write_offset);
    reader_scene_expect_records(3, 35);
    reader_scene_expect_silence();
}
END_TEST

START_TEST(what_is_missing)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 3); /* inside */
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 4); /* at its end, and at the beginning of the next one */
    live_log_roll(&scene.recorder);
    scene.recorder.maker.next_seq += 2;
    live_log_name(&scene.recorder);
    live_log_append(&scene.recorder, 10);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 10);
    reader_scene_expect_lost(10, 3, HF_UNRECORDED);
    reader_scene_expect_records(13, 23);
    reader_scene_expect_lost(23, 4, HF_UNRECORDED);
    reader_scene_expect_lost(27, 2, HF_UNRECORDED);
    reader_scene_expect_records(29, 39);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    /* Live, there is no record behind it that would show it. */
    live_log_lose(&scene.recorder, 6);
    reader_scene_expect_lost(39, 6, HF_UNRECORDED);
    reader_scene_expect_silence();
    reader_scene_close_reader();

    reader_scene_read(HF_OLD | HF_STRICT, NULL);
    reader_scene_expect_records(0, 10);
    reader_scene_expect_lost(10, 3, HF_UNRECORDED);
    ck_assert_int_eq(hf_next(scene.reader, &scene.datagram), -ENODATA);
}
END_TEST

/* Retention is faster than the reader. */
START_TEST(what_has_expired)
{
    for (int i = 0; i < 4; i++) {
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, 10);
    }
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 5);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.segment_count = 2;
    scene.gate.segments[0] = scene.gate.segments[2];
    scene.gate.segments[1] = scene.gate.segments[3];
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_expect_records(5, 10); /* it has that file */
    reader_scene_expect_lost(10, 10, HF_EXPIRED);
    reader_scene_expect_records(20, 40);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_close_reader();

    reader_scene_read(HF_OLD, &(struct hf_start){.at = HF_SEQ, .seq = 7});
    reader_scene_expect_lost(7, 13, HF_EXPIRED);
    reader_scene_expect_records(20, 40);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

/* While the archive changes a damaged file for its copy, neither has a name. */
START_TEST(a_file_that_comes_back)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    pthread_mutex_lock(&scene.gate.lock);
    const struct fake_segment away = scene.gate.segments[0];
    scene.gate.segments[0] = scene.gate.segments[1];
    scene.gate.segment_count = 1;
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_read(HF_JOINED, &(struct hf_start){.at = HF_SEQ, .seq = 0});
    ck_assert_int_eq(hf_next(scene.reader, &scene.datagram), HF_NONE);
    struct pollfd wait = {.fd = hf_reader_fd(scene.reader), .events = POLLIN};
    for (int i = 0; i < 3; i++) { /* it has asked, was answered, and asks again */
        ck_assert_int_eq(poll(&wait, 1, 1000), 1);
        ck_assert_int_eq(hf_next(scene.reader, &scene.datagram), HF_NONE);
    }
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.segments[1] = scene.gate.segments[0];
    scene.gate.segments[0] = away;
    scene.gate.segment_count = 2;
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_expect_records(0, 20);
}
END_TEST

START_TEST(a_segment_that_was_given_up)
{
    reader_scene_go_live();
    live_log_append(&scene.recorder, 5);
    live_log_give_up(&scene.recorder);
    reader_scene_expect_records(10, 15);
    reader_scene_expect_silence();
    /* Datagrams are lost, then another segment begins. */
    scene.recorder.maker.next_seq += 5;
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 5);
    reader_scene_expect_lost(15, 5, HF_UNRECORDED);
    reader_scene_expect_records(20, 25);
    reader_scene_expect_silence();
}
END_TEST

START_TEST(a_damaged_record)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 20);
    size_t at = scene.recorder.maker.write_offset;
    live_log_append(&scene.recorder, 20);
    live_log_lose(&scene.recorder, 0);
    uint8_t wrong = (uint8_t)~scene.recorder.maker.bytes[at - 3];
    ck_assert_int_eq(fd_write_all(scene.recorder.fd, &wrong, 1, at - 3), 0);
    reader_scene_read(HF_OLD, NULL);
    reader_scene_expect_records(0, 19);
    reader_scene_expect_lost(19, 1, HF_DAMAGED);
    reader_scene_expect_records(20, 40);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

START_TEST(nobody_was_receiving)
{
    reader_scene_begin_segment();
    scene.recorder.maker.other_flags = AVRO_LOG_NOT_COVERED;
    live_log_append(&scene.recorder, 1);
    scene.recorder.maker.other_flags = 0;
    live_log_append(&scene.recorder, 4);
    scene.recorder.maker.other_flags = AVRO_LOG_NOT_COVERED;
    live_log_append(&scene.recorder, 1);
    scene.recorder.maker.other_flags = 0;
    live_log_append(&scene.recorder, 4);
    reader_scene_read(HF_JOINED, NULL);
    ck_assert_int_eq(reader_scene_next(),
                     HF_DATAGRAM); /* the first one is before all that it knows */
    ck_assert_uint_eq(scene.datagram.seq, 0);
    ck_assert(scene.datagram.flags & HF_FLAG_UNCOVERED);
    reader_scene_expect_records(1, 5);
    reader_scene_expect_lost(5, 0, HF_UNCOVERED);
    ck_assert_int_eq(reader_scene_next(), HF_DATAGRAM);
    ck_assert_uint_eq(scene.datagram.seq, 5);
    reader_scene_expect_records(6, 10);
}
END_TEST

/* ---- the gate and the ring come and go ---- */

START_TEST(the_gate_dies)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_read(HF_JOINED, &(struct hf_start){.at = HF_FIRST, .position = "mine"});
    int fd = hf_reader_fd(scene.reader);
    uint64_t next = 0;
    for (int i = 0; i < 30; i++) {
        if (i % 2)
            fake_gate_kill(&scene.gate);
        reader_scene_expect_records(next, scene.recorder.maker.next_seq);
        next = scene.recorder.maker.next_seq;
        if (i == 0)
            ck_assert_int_eq(reader_scene_next(), HF_LIVE);
        fake_gate_kill(&scene.gate);
        live_log_append(&scene.recorder, 3);
        if (i % 5 == 0)
            reader_scene_begin_segment();
        live_log_append(&scene.recorder, 3);
        ck_assert_int_eq(hf_save(scene.reader, next), 0);
    }
    reader_scene_expect_records(next, scene.recorder.maker.next_seq);
    reader_scene_expect_silence();
    ck_assert_int_eq(hf_reader_fd(scene.reader), fd);
}
END_TEST

START_TEST(the_gate_dies_while_all_is_quiet)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_read(HF_NEW, NULL);
    reader_scene_expect_silence();
    fake_gate_kill(&scene.gate);
    reader_scene_expect_silence();
    live_log_append(&scene.recorder, 10);
    reader_scene_expect_records(10, 20);
    reader_scene_expect_silence();
}
END_TEST

START_TEST(another_ring)
{
    reader_scene_go_live();
    live_log_append(&scene.recorder, 10);
    live_log_write_in_vain(&scene.recorder); /* and is given up with the ring */
    reader_scene_change_rings(23, 23);
    reader_scene_expect_records(10, 20);
    reader_scene_expect_silence();
    reader_scene_lend(&scene.second_ring, 2);
    live_log_move(&scene.recorder, &scene.second_ring, 23);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_expect_lost(20, 3, HF_UNRECORDED);
    reader_scene_expect_records(23, 33);
    reader_scene_expect_silence();
}
END_TEST

/* Everything died, and what was lost at the end of the log was not recorded anywhere: its numbers
 * are given again. */
START_TEST(numbers_that_are_given_again)
{
    reader_scene_lose_the_end();
    reader_scene_begin_anew();
    reader_scene_expect_lost(10, 0, HF_UNCOVERED);
    reader_scene_expect_records(10, 13);
    reader_scene_expect_silence();
}
END_TEST

START_TEST(no_ring_for_a_while)
{
    reader_scene_go_live();
    live_log_append(&scene.recorder, 10);
    reader_scene_change_rings(20, 20);
    reader_scene_lend(NULL, 0);
    reader_scene_expect_records(10, 20);
    reader_scene_expect_silence();
    live_log_move(&scene.recorder, &scene.second_ring, 20);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_expect_records(20, 30);
    reader_scene_expect_silence();
}
END_TEST

START_TEST(files_without_a_ring)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 0);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
    reader_scene_lend(NULL, 0);
    reader_scene_read(HF_OLD, NULL);
    reader_scene_expect_records(0, 10);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
    reader_scene_close_reader();
    reader_scene_read(HF_JOINED, &(struct hf_start){.at = HF_LAST});
    reader_scene_expect_record(9);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_expect_silence();
    reader_scene_close_reader();
    reader_scene_read(HF_NEW, NULL);
    reader_scene_expect_silence();
    reader_scene_lend(&scene.ring, 3);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 1);
    reader_scene_expect_record(10);
}
END_TEST

/* ---- a gate that sends without end ---- */

static bool ends_within(monotonic begun, uint64_t ns)
{
    return monotonic_since(monotonic_now(), begun) < ns;
}

/* What it is asked for is never answered. */
START_TEST(requests_in_a_flood)
{
    struct hf_channel *channels;
    size_t count;
    hf *other;
    reader_scene_begin_segment();
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.deaf = true;
    pthread_mutex_unlock(&scene.gate.lock);
    scene.gate.flood = READ_CHANNELS;
    monotonic begun = monotonic_now();
    ck_assert_int_eq(hf_list(scene.handle, &channels, &count), -ETIMEDOUT);
    ck_assert(ends_within(begun, 4 * NS_PER_S));
    begun = monotonic_now();
    ck_assert_int_eq(hf_open(&other, scene.gate.socket), -ETIMEDOUT);
    ck_assert(ends_within(begun, 4 * NS_PER_S));
    begun = monotonic_now();
    ck_assert_int_eq(hf_read(scene.handle, RING_FIXTURE_CHANNEL, NULL, HF_OLD, &scene.reader),
                     -ETIMEDOUT);
    ck_assert(ends_within(begun, 4 * NS_PER_S));
    scene.gate.flood = 0;
}
END_TEST

static void fill_up(void)
{
    scene.gate.flood = READ_CHANNELS;
    while (!scene.gate.is_full)
        poll(NULL, 0, 1);
    scene.gate.flood = 0;
}

/* One call takes only so much of it; the rest is there yet. */
START_TEST(a_reader_behind_a_flood)
{
    reader_scene_begin_segment();
    reader_scene_read(HF_NEW, NULL);
    reader_scene_expect_silence();
    fill_up();
    struct pollfd wait = {.fd = hf_reader_fd(scene.reader), .events = POLLIN};
    ck_assert_int_eq(hf_next(scene.reader, &scene.datagram), HF_NONE);
    ck_assert_int_eq(poll(&wait, 1, 0), 1);
    reader_scene_expect_silence();
    live_log_append(&scene.recorder, 1);
    reader_scene_expect_record(0);
}
END_TEST

/* hf_next() says that there is nothing, and gets what there is as soon as it is over. */
START_TEST(a_reader_in_a_flood)
{
    reader_scene_go_live();
    scene.gate.flood = _i ? READ_WOKEN : READ_CHANNELS;
    monotonic begun = monotonic_now();
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(hf_next(scene.reader, &scene.datagram), HF_NONE);
    ck_assert(ends_within(begun, 10 * NS_PER_S));
    scene.gate.flood = 0; /* how soon an answer comes through it is the machine's matter */
    live_log_append(&scene.recorder, 10);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_expect_records(10, 30);
    reader_scene_expect_silence();
}
END_TEST

/* A list that has no end is no list. */
START_TEST(a_list_without_end)
{
    struct hf_channel *channels;
    size_t count;
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.channel_count = READ_LIST_MAX;
    scene.gate.endless = true;
    pthread_mutex_unlock(&scene.gate.lock);
    ck_assert_int_eq(hf_list(scene.handle, &channels, &count), -EPROTO);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.endless = false;
    pthread_mutex_unlock(&scene.gate.lock);
    ck_assert_int_eq(hf_list(scene.handle, &channels, &count), 0);
    ck_assert_uint_eq(count, READ_LIST_MAX);
    free(channels);
}
END_TEST

/* ---- where to begin ---- */

static uint64_t first_of(unsigned flags, struct hf_start start)
{
    reader_scene_read(flags, &start);
    int event = reader_scene_next();
    uint64_t seq = event == HF_DATAGRAM ? scene.datagram.seq : UINT64_MAX;
    reader_scene_close_reader();
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
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, 300);
    }
    live_log_lose(&scene.recorder, 5);
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
    reader_scene_read(HF_NEW, NULL);
    reader_scene_expect_silence();
    live_log_append(&scene.recorder, 1);
    reader_scene_expect_record(905);
}
END_TEST

START_TEST(nothing_recorded_yet)
{
    reader_scene_read(HF_JOINED, NULL);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_expect_silence();
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 3);
    reader_scene_expect_records(0, 3);
    reader_scene_close_reader();
    reader_scene_read(HF_OLD, NULL);
    reader_scene_expect_records(0, 3);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

/* The first file of all is written to before it has its name: from wherever a reader begins,
 * nothing of it is passed over. */
START_TEST(the_first_file_has_yet_to_get_its_name)
{
    live_log_roll(&scene.recorder);
    live_log_append(&scene.recorder, 12);
    reader_scene_read(HF_JOINED, &(struct hf_start){.at = HF_FIRST});
    live_log_name(&scene.recorder);
    reader_scene_expect_records(0, 12);
}
END_TEST

/* When it has been looked for twice. */
static void *name_it_late(void *unused)
{
    (void)unused;
    while (fake_gate_count(&scene.gate, READ_FIND) < 2)
        usleep(1000);
    live_log_name(&scene.recorder);
    return NULL;
}

START_TEST(the_first_file_gets_its_name_while_a_time_is_looked_for)
{
    pthread_t thread;
    live_log_roll(&scene.recorder);
    live_log_append(&scene.recorder, 12);
    ck_assert_int_eq(pthread_create(&thread, NULL, name_it_late, NULL), 0);
    reader_scene_read(HF_JOINED, &(struct hf_start){.at = HF_TIME, .time_ns = 0});
    reader_scene_expect_records(0, 12);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

START_TEST(named_positions)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 20);
    struct hf_start start = {.at = HF_POSITION, .position = "mine"};
    reader_scene_read(HF_JOINED, &start);
    reader_scene_expect_records(0, 10);
    hf_reader *other;
    ck_assert_int_eq(hf_read(scene.handle, NULL, &start, HF_JOINED, &other), -EBUSY);
    ck_assert_int_eq(hf_forget(scene.handle, RING_FIXTURE_CHANNEL, "mine"), -EBUSY);
    ck_assert_int_eq(hf_save(scene.reader, 7), 0);
    reader_scene_expect_records(10, 12);
    reader_scene_close_reader();
    reader_scene_read(HF_JOINED, &start); /* at once: the gate may not know yet that it is free */
    reader_scene_expect_records(7, 20);
    ck_assert_int_eq(hf_seek(scene.reader, &start), 0);
    reader_scene_expect_record(7);
    ck_assert_int_eq(hf_save(scene.reader, 9), 0);
    ck_assert_int_eq(hf_seek(scene.reader, &start), 0);
    reader_scene_expect_record(9);
    ck_assert_int_eq(
        hf_seek(scene.reader, &(struct hf_start){.at = HF_POSITION, .position = "other"}), -EINVAL);
    reader_scene_close_reader();
    reader_scene_read(HF_OLD, NULL);
    ck_assert_int_eq(hf_save(scene.reader, 1), -EINVAL);
    reader_scene_close_reader();
    int result;
    while ((result = hf_forget(scene.handle, RING_FIXTURE_CHANNEL, "mine")) == -EBUSY)
        poll(NULL, 0, 1);
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(hf_forget(scene.handle, RING_FIXTURE_CHANNEL, "mine"), -ENOENT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("live_reader");
    TCase *tests = tcase_create("live_reader");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, reader_scene_begin, reader_scene_end);
    tcase_add_test(tests, nobody_there);
    tcase_add_loop_test(tests, what_comes_while_it_saves_is_told, 0, 2);
    tcase_add_test(tests, sought_back_while_it_sleeps);
    tcase_add_test(tests, whoever_is_turned_away_comes_again);
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
    tcase_add_test(tests, requests_in_a_flood);
    tcase_add_test(tests, a_reader_behind_a_flood);
    tcase_add_loop_test(tests, a_reader_in_a_flood, 0, 2);
    tcase_add_test(tests, a_list_without_end);
    tcase_add_test(tests, starts);
    tcase_add_test(tests, nothing_recorded_yet);
    tcase_add_test(tests, the_first_file_has_yet_to_get_its_name);
    tcase_add_test(tests, the_first_file_gets_its_name_while_a_time_is_looked_for);
    tcase_add_test(tests, named_positions);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
