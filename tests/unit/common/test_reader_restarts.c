/* SPDX-License-Identifier: MIT */
/* Readers that are there while a daemon ends and another one begins: before its log is recovered,
 * while nothing is recorded, or where recording is switched on or off between the two. What they
 * get is what came, once, and what they don't get is told. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/reader_scene.h"

static const struct hf_start mine = {.at = HF_POSITION, .position = "mine"};

/* ---- recording is switched on, or off ---- */

/* The log is longer than the ring's numbers are high: its old records are not what is new. */
START_TEST(log_longer_than_ring)
{
    reader_scene_leave_log(30);
    static struct ring_fixture unrecorded;
    reader_scene_open_ring(&unrecorded, 0, 700);
    reader_scene_set_records(false);
    reader_scene_lend(&unrecorded, 7);
    reader_scene_read(HF_NEW, NULL);
    reader_scene_publish(&unrecorded, 20);
    reader_scene_expect_from_ring(0, 20);
    reader_scene_expect_nothing_yet();
    reader_scene_change_rings(30, 30);
    live_log_move(&scene.recorder, &scene.second_ring, 30);
    reader_scene_set_records(true);
    reader_scene_lend(_i ? &scene.second_ring : NULL, _i ? 2 : 0);
    fake_gate_kill(&scene.gate);
    if (!_i) {
        reader_scene_expect_nothing_yet();
        reader_scene_lend(&scene.second_ring, 2);
    }
    reader_scene_expect_lost(30, 0, HF_UNCOVERED);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 5);
    reader_scene_expect_records(30, 35);
    ring_fixture_close(&unrecorded);
}
END_TEST

/* What was left in the ring is told by number, before the log goes on. */
START_TEST(rest_of_the_ring)
{
    reader_scene_leave_log(10);
    static struct ring_fixture unrecorded;
    reader_scene_open_ring(&unrecorded, 0, 700);
    reader_scene_set_records(false);
    reader_scene_lend(&unrecorded, 7);
    reader_scene_read(HF_NEW, _i ? &mine : NULL);
    reader_scene_publish(&unrecorded, 20);
    reader_scene_expect_from_ring(0, 15);
    reader_scene_change_rings(10, 10);
    live_log_move(&scene.recorder, &scene.second_ring, 10);
    reader_scene_set_records(true);
    reader_scene_lend(&scene.second_ring, 2);
    fake_gate_kill(&scene.gate);
    if (_i)
        ck_assert_int_eq(hf_save(scene.reader, 15), 0);
    unsigned got = 0;
    int event;
    uint64_t told = 0;
    while ((event = reader_scene_next()) == HF_DATAGRAM)
        got++;
    told = scene.datagram.lost;
    ck_assert_uint_eq(got + told, 5);
    ring_fixture_close(&unrecorded);
}
END_TEST

/* Opened where nobody lent a ring; then numbers begin at 0. */
START_TEST(opened_without_ring_then_recording_off)
{
    reader_scene_leave_log(10);
    reader_scene_lend(NULL, 0);
    reader_scene_read(HF_NEW, NULL);
    reader_scene_expect_nothing_yet();
    reader_scene_change_rings(10, 0);
    reader_scene_set_records(false);
    reader_scene_lend(&scene.second_ring, 2);
    fake_gate_kill(&scene.gate);
    reader_scene_publish(&scene.second_ring, 8);
    reader_scene_expect_lost(0, 0, HF_UNCOVERED);
    reader_scene_expect_from_ring(0, 8);
}
END_TEST

/* The same, and the log is gone. */
START_TEST(opened_without_ring_then_no_log)
{
    reader_scene_leave_log(10);
    reader_scene_lend(NULL, 0);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 10);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_expect_nothing_yet();
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.segment_count = 0;
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_change_rings(10, 0);
    live_log_move(&scene.recorder, &scene.second_ring, 0);
    reader_scene_lend(&scene.second_ring, 2);
    fake_gate_kill(&scene.gate);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 8);
    reader_scene_expect_lost(0, 0, HF_UNCOVERED);
    reader_scene_expect_records(0, 8);
}
END_TEST

/* A segment was given up when HF_OLD was opened: the files that it has yet to read are old. */
START_TEST(old_opened_in_trouble)
{
    for (int i = 0; i < 2; i++) {
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, 10);
    }
    live_log_lose(&scene.recorder, 0); /* seals the block */
    const uint64_t lengths[2] = {scene.recorder.commit.finished_length,
                                 scene.recorder.commit.block_start};
    live_log_give_up(&scene.recorder);
    live_log_lose(&scene.recorder, 5);
    reader_scene_read(HF_OLD, NULL);
    reader_scene_expect_records(0, 5);
    live_log_seal(&scene.recorder, 0, lengths[0]);
    live_log_seal(&scene.recorder, 1, lengths[1]);
    reader_scene_change_rings(25, 25);
    live_log_move(&scene.recorder, &scene.second_ring, 25);
    reader_scene_lend(&scene.second_ring, 2);
    if (_i)
        fake_gate_kill(&scene.gate);
    reader_scene_expect_records(5, 20);
    reader_scene_expect_lost(20, 5, HF_UNRECORDED);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

/* The file was still written to when HF_OLD was opened, and recovery finds less in it. */
START_TEST(old_opened_in_a_file_that_is_cut)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 5);
    live_log_lose(&scene.recorder, 0); /* seals the block */
    const uint64_t length = scene.recorder.commit.write_offset;
    live_log_append(&scene.recorder, 5);
    reader_scene_lend(NULL, 0);
    reader_scene_read(HF_OLD, NULL);
    live_log_seal(&scene.recorder, 0, length);
    reader_scene_change_rings(5, 5);
    live_log_move(&scene.recorder, &scene.second_ring, 5);
    reader_scene_lend(&scene.second_ring, 2);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_records(0, 5);
    reader_scene_expect_lost(5, 5, HF_UNRECORDED);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

/* The newest file is taken away, and the log goes on in the middle of what was there at first: what
 * lies before that is still to come. */
START_TEST(first_ring_between_reader_and_end)
{
    uint64_t lengths[3];
    for (unsigned i = 0; i < 3; i++) {
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, 3 + i);
        live_log_lose(&scene.recorder, 0);
        lengths[i] = scene.recorder.commit.write_offset;
    }
    for (size_t i = 0; i < 3; i++)
        live_log_seal(&scene.recorder, i, lengths[i]);
    reader_scene_lend(NULL, 0);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 3);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.segment_count = 2;
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_change_rings(7, 7);
    live_log_move(&scene.recorder, &scene.second_ring, 7);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 1);
    reader_scene_lend(&scene.second_ring, 2);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_records(3, 8);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
}
END_TEST

/* There is none when HF_NEW is opened, and nothing that came before is new. */
START_TEST(new_opened_between_two_rings)
{
    static struct ring_fixture next;
    struct hf_lag lag;
    reader_scene_set_records(false);
    reader_scene_lend(NULL, 0);
    reader_scene_read(HF_NEW, NULL);
    reader_scene_expect_nothing_yet();
    reader_scene_open_ring(&next, 1000, 778);
    reader_scene_publish(&next, 5);
    reader_scene_lend(&next, 3);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_from_ring(1000, 1005);
    ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_SEQ, .seq = 2000}), 0);
    ck_assert_int_eq(hf_lag(scene.reader, &lag), 0);
    ck_assert_uint_eq(lag.next_seq, 2000);
    ck_assert_uint_eq(lag.end_seq, 2000); /* nothing lies before it */
    reader_scene_lend(NULL, 0);
    ring_fixture_close(&next);
}
END_TEST

/* ---- a position ---- */

/* Recovery takes it back while the reader is there: sought again, that counts. */
START_TEST(sought_its_position)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 5);
    reader_scene_read(HF_JOINED, &mine);
    reader_scene_expect_records(0, 10);
    reader_scene_expect_lost(10, 5, HF_UNRECORDED);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    ck_assert_int_eq(hf_save(scene.reader, 15), 0);
    reader_scene_change_rings(10, 10);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
    live_log_move(&scene.recorder, &scene.second_ring, 10);
    reader_scene_lend(NULL, 0);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_nothing_yet();
    /* recovery */
    pthread_mutex_lock(&scene.gate.lock);
    ck_assert_uint_eq(scene.gate.positions[0].seq, 15);
    scene.gate.positions[0].seq = 10;
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_expect_lost(10, 0, HF_UNCOVERED);
    reader_scene_expect_records(10, 12);
    ck_assert_int_eq(hf_seek(scene.reader, &mine), 0);
    reader_scene_expect_records(10, 20);
}
END_TEST

/* What was on the disk under these numbers is not what has them now. */
START_TEST(durable_of_what_was_given_again)
{
    struct hf_lag lag;
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 5);
    channel_page_write_durable(scene.ring.ring.page, scene.recorder.commit.segment_id,
                               scene.recorder.commit.write_offset);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 10);
    reader_scene_expect_lost(10, 5, HF_UNRECORDED);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    ck_assert_int_eq(hf_lag(scene.reader, &lag), 0);
    ck_assert_uint_eq(lag.durable_seq, 15);
    reader_scene_begin_anew();
    reader_scene_expect_lost(10, 0, HF_UNCOVERED);
    reader_scene_expect_records(10, 13);
    ck_assert_int_eq(hf_lag(scene.reader, &lag), 0);
    ck_assert_uint_le(lag.durable_seq, 10);
}
END_TEST

/* A power cut takes the log's end, and 6 is given again; 10 was saved as done with, and its reader
 * is back before that is known. */
static void open_before_recovery(void)
{
    reader_scene_lose_what_was_done_with(&mine);
    reader_scene_read(HF_JOINED, &mine);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_expect_nothing_yet();
}

/* It is refused for a moment, when it is asked for again. */
START_TEST(claim_refused_once)
{
    open_before_recovery();
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.positions[0].seq = 6;
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
                     0);
    struct fake_connection *other = &scene.gate.connections[FAKE_GATE_CONNECTIONS - 1];
    *other = (struct fake_connection){.fd = pair[0]};
    snprintf(other->position, sizeof other->position, "mine");
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_expect_nothing_yet();
    if (_i)
        fake_gate_kill(&scene.gate); /* with that one, too */
    else
        fd_close(&pair[1]);
    reader_scene_expect_lost(6, 0, HF_UNCOVERED);
    reader_scene_expect_records(6, 16);
    fd_close(&pair[1]);
}
END_TEST

/* What was saved before is saved once more, while the log is being recovered. */
START_TEST(saved_while_recovery_runs)
{
    open_before_recovery();
    ck_assert_int_eq(hf_save(scene.reader, 10), 0); /* all that it has, as once a second */
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.positions[0].seq = 6; /* recovery */
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_expect_lost(6, 0, HF_UNCOVERED);
    reader_scene_expect_records(6, 16);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reader_restarts");
    TCase *tests = tcase_create("reader_restarts");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, reader_scene_begin, reader_scene_end);
    tcase_add_loop_test(tests, log_longer_than_ring, 0, 2);
    tcase_add_loop_test(tests, rest_of_the_ring, 0, 2);
    tcase_add_test(tests, opened_without_ring_then_recording_off);
    tcase_add_test(tests, opened_without_ring_then_no_log);
    tcase_add_loop_test(tests, old_opened_in_trouble, 0, 2);
    tcase_add_test(tests, old_opened_in_a_file_that_is_cut);
    tcase_add_test(tests, first_ring_between_reader_and_end);
    tcase_add_test(tests, new_opened_between_two_rings);
    tcase_add_test(tests, sought_its_position);
    tcase_add_test(tests, durable_of_what_was_given_again);
    tcase_add_loop_test(tests, claim_refused_once, 0, 2);
    tcase_add_test(tests, saved_while_recovery_runs);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
