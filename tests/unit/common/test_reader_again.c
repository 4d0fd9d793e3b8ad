/* SPDX-License-Identifier: MIT */
/* Readers and numbers that are given again. The story: everything dies, and what was lost at the
 * log's end is numbered anew; a ring comes and goes before a reader looks; a power cut takes what
 * was saved as done with; a channel is made to record, or not to. Nothing is passed over in
 * silence, and nothing is given twice that has not become something else. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/reader_scene.h"

static const struct hf_start mine = {.at = HF_POSITION, .position = "mine"};

/* ---- a ring that nobody saw ---- */

/* Lost at the log's end were 10 to 14. Then everything dies twice, before the reader looks: a ring
 * that it never sees has recorded so many from 10 on, in files of five, and the one that it sees
 * begins behind them. What was given again is looked for in files. */
static struct ring_fixture third_ring;

static void miss_a_ring_behind(size_t last, unsigned recorded)
{
    fake_gate_kill(&scene.gate);
    live_log_seal(&scene.recorder, last, scene.recorder.commit.block_start);
    reader_scene_change_rings(10, 10);
    live_log_move(&scene.recorder, &scene.second_ring, recorded ? 10 : 15);
    for (unsigned i = 0; i < recorded; i += 5) {
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, recorded - i < 5 ? recorded - i : 5);
        live_log_lose(&scene.recorder, 0);
        live_log_seal(&scene.recorder, last + i / 5 + 1, scene.recorder.commit.block_start);
    }
    const uint64_t end = scene.recorder.commit.next_seq;
    channel_page_retire(scene.second_ring.ring.page, RING_REPLACED, end);
    reader_scene_open_ring(&third_ring, end, 778);
    live_log_move(&scene.recorder, &third_ring, end);
    reader_scene_lend(&third_ring, 3);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 3);
}

static void miss_a_ring(unsigned recorded)
{
    miss_a_ring_behind(0, recorded);
}

static void forget_third_ring(void)
{
    reader_scene_lend(NULL, 0);
    ring_fixture_close(&third_ring);
}

START_TEST(a_ring_came_and_went_unseen)
{
    static const unsigned recorded[] = {3, 5, 20, 0};
    const uint64_t first = recorded[_i] ? 10 : 15;
    reader_scene_lose_the_end();
    miss_a_ring(recorded[_i]);
    if (recorded[_i])
        reader_scene_expect_lost(10, 0, HF_UNCOVERED);
    reader_scene_expect_records(first, first + recorded[_i] + 3);
    reader_scene_expect_silence();
    forget_third_ring();
}
END_TEST

/* The archive has noted in a file without records that the lost ones had numbers: that gives none
 * again; a file behind it may. */
START_TEST(what_only_says_numbers_gives_none_again)
{
    static const struct avro_log_totals totals = {.last_seq = 14};
    reader_scene_lose_the_end();
    fake_gate_kill(&scene.gate);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
    reader_scene_change_rings(10, 10);
    live_log_move(&scene.recorder, &scene.second_ring, 10);
    reader_scene_begin_segment();
    reader_scene_say_totals(&totals);
    live_log_seal(&scene.recorder, 1, scene.recorder.maker.header_size);
    const uint64_t first = _i ? 12 : 15;
    if (_i) { /* one ring more that nobody sees */
        live_log_move(&scene.recorder, &scene.second_ring, first);
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, 3);
        live_log_lose(&scene.recorder, 0);
        live_log_seal(&scene.recorder, 2, scene.recorder.commit.block_start);
    }
    reader_scene_open_ring(&third_ring, 15, 778);
    live_log_move(&scene.recorder, &third_ring, 15);
    reader_scene_lend(&third_ring, 3);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 3);
    if (_i)
        reader_scene_expect_lost(first, 0, HF_UNCOVERED);
    reader_scene_expect_records(first, 18);
    reader_scene_expect_silence();
    forget_third_ring();
}
END_TEST

/* The gate dies over the question, or can't read the folder just now; or the program seeks. */
START_TEST(disturbed_while_it_looks_back)
{
    reader_scene_lose_the_end();
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.find_error = EIO;
    pthread_mutex_unlock(&scene.gate.lock);
    miss_a_ring(20);
    ck_assert_int_eq(reader_scene_next(), -EIO);
    if (_i == 1)
        fake_gate_kill(&scene.gate);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.find_error = 0;
    pthread_mutex_unlock(&scene.gate.lock);
    if (_i == 2) {
        ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_SEQ, .seq = 20}), 0);
        reader_scene_expect_records(20, 33);
    } else {
        reader_scene_expect_lost(10, 0, HF_UNCOVERED);
        reader_scene_expect_records(10, 33);
    }
    reader_scene_expect_silence();
    forget_third_ring();
}
END_TEST

/* Who has begun behind the lost end has passed it all the same. */
START_TEST(began_behind_the_lost_end)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 5);
    reader_scene_read(_i == 0 ? HF_NEW : HF_JOINED, _i == 1 ? &mine : NULL);
    if (_i > 0) {
        reader_scene_expect_records(0, 10);
        reader_scene_expect_lost(10, 5, HF_UNRECORDED);
    }
    if (_i == 1) {
        ck_assert_int_eq(hf_save(scene.reader, 15), 0);
        reader_scene_close_reader();
        reader_scene_read(HF_JOINED, &mine);
    }
    if (_i == 2)
        ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_END}), 0);
    if (_i > 0)
        ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_expect_nothing_yet();
    miss_a_ring(20);
    reader_scene_expect_lost(10, 0, HF_UNCOVERED);
    reader_scene_expect_records(10, 33);
    reader_scene_expect_silence();
    forget_third_ring();
}
END_TEST

/* A number that nobody has given yet is waited for, whatever rings come. */
START_TEST(what_is_still_to_come_is_waited_for)
{
    reader_scene_lose_the_end();
    ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_SEQ, .seq = 31}), 0);
    reader_scene_expect_nothing_yet();
    miss_a_ring(20);
    reader_scene_expect_records(31, 33);
    reader_scene_expect_silence();
    forget_third_ring();
}
END_TEST

/* A file at the log's end can't be read, and that was told. It is the seen ring's own. */
START_TEST(damage_is_told_once)
{
    static const uint8_t nonsense[4096] = {0xee, 1, 2, 3, 4};
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_begin_segment();
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.finished_length);
    live_log_append(&scene.recorder, 10);
    reader_scene_begin_segment();
    live_log_seal(&scene.recorder, 1, scene.recorder.commit.finished_length);
    int fd = open(scene.gate.segments[1].path, O_RDWR | O_TRUNC | O_CLOEXEC);
    ck_assert_int_eq(fd_write_all(fd, nonsense, sizeof nonsense, 0), 0);
    fd_close(&fd);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 10);
    reader_scene_expect_lost(10, 10, HF_DAMAGED);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_expect_silence();
    reader_scene_change_rings(20, 20);
    live_log_move(&scene.recorder, &scene.second_ring, 20);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 3);
    reader_scene_expect_records(20, 23);
    reader_scene_expect_silence();
}
END_TEST

/* What was old when HF_OLD was opened is not what has its numbers now. Nothing new is given, or has
 * come yet. */
START_TEST(old_ends_although_its_numbers_begin_anew)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 7);
    reader_scene_begin_segment();
    const uint64_t first_length = scene.recorder.commit.finished_length;
    live_log_append(&scene.recorder, 3);
    live_log_lose(&scene.recorder, 5);
    reader_scene_read(HF_OLD, NULL);
    reader_scene_expect_records(0, 5);
    live_log_seal(&scene.recorder, 0, first_length);
    if (_i == 2) {
        miss_a_ring_behind(1, 20);
    } else {
        fake_gate_kill(&scene.gate);
        live_log_seal(&scene.recorder, 1, scene.recorder.commit.block_start);
        reader_scene_change_rings(10, 10);
        live_log_move(&scene.recorder, &scene.second_ring, 10);
        reader_scene_lend(&scene.second_ring, 2);
        if (_i == 1) {
            reader_scene_begin_segment();
            live_log_append(&scene.recorder, 3);
        }
    }
    reader_scene_expect_records(5, 10);
    reader_scene_expect_lost(10, 5, HF_UNRECORDED);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
    if (_i == 2)
        forget_third_ring();
}
END_TEST

/* ---- a position ---- */

/* As the archive does, before there is a ring. */
static void take_position_back(void)
{
    pthread_mutex_lock(&scene.gate.lock);
    ck_assert_uint_eq(scene.gate.positions[0].seq, 10);
    scene.gate.positions[0].seq = 6;
    pthread_mutex_unlock(&scene.gate.lock);
}

/* Whoever has opened before that goes back, too, however far the ring has come; also when the gate
 * has died, before or after. */
START_TEST(opened_before_the_position_goes_back)
{
    reader_scene_lose_what_was_done_with(&mine);
    reader_scene_read(HF_JOINED, &mine);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_expect_nothing_yet();
    if (_i == 1) {
        fake_gate_kill(&scene.gate);
        reader_scene_expect_nothing_yet();
    }
    take_position_back();
    if (_i == 2) {
        fake_gate_kill(&scene.gate);
        reader_scene_expect_lost(6, 0, HF_UNCOVERED);
    }
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_lend(&scene.second_ring, 2);
    fake_gate_kill(&scene.gate);
    if (_i < 2)
        reader_scene_expect_lost(6, 0, HF_UNCOVERED);
    reader_scene_expect_records(6, 16);
    reader_scene_expect_silence();
}
END_TEST

/* What is told as lost behind a position is behind it, and not told again with every connection. */
START_TEST(a_position_whose_datagrams_have_expired)
{
    reader_scene_lose_what_was_done_with(&mine);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.positions[0].seq = 0;
    scene.gate.segment_count = 0;
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_begin_segment();
    reader_scene_read(HF_JOINED, &mine);
    reader_scene_expect_lost(0, 6, HF_EXPIRED);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_silence();
    live_log_append(&scene.recorder, 3);
    reader_scene_expect_records(6, 9);
}
END_TEST

/* ---- recording is switched on, or off ---- */

/* Off, and on again with the older log, which the reader has had: and between two rings there is
 * none for a moment. */
START_TEST(recording_is_switched_off_and_on)
{
    reader_scene_begin_segment();
    reader_scene_read(HF_NEW, NULL);
    live_log_append(&scene.recorder, 10);
    reader_scene_expect_records(0, 10);
    live_log_lose(&scene.recorder, 0);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
    reader_scene_change_rings(10, 0);
    reader_scene_set_records(false);
    reader_scene_lend(&scene.second_ring, 2);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_lost(0, 0, HF_UNCOVERED);
    reader_scene_publish(&scene.second_ring, 15);
    reader_scene_expect_from_ring(0, 15);
    reader_scene_open_ring(&third_ring, 10, 778);
    live_log_move(&scene.recorder, &third_ring, 10);
    reader_scene_set_records(true);
    reader_scene_lend(NULL, 0);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_nothing_yet();
    reader_scene_lend(&third_ring, 3);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_lost(10, 0, HF_UNCOVERED);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 15);
    reader_scene_expect_records(10, 25);
    reader_scene_expect_silence();
    forget_third_ring();
}
END_TEST

START_TEST(recording_is_switched_off)
{
    reader_scene_begin_segment();
    reader_scene_read(HF_NEW, NULL);
    live_log_append(&scene.recorder, 10);
    reader_scene_expect_records(0, 10);
    reader_scene_expect_nothing_yet();
    reader_scene_change_rings(10, 0);
    reader_scene_set_records(false);
    if (_i)
        reader_scene_publish(&scene.second_ring, 15);
    reader_scene_lend(&scene.second_ring, 2);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_lost(0, 0, HF_UNCOVERED);
    if (!_i)
        reader_scene_publish(&scene.second_ring, 15);
    reader_scene_expect_from_ring(0, 15);
    reader_scene_expect_silence();
}
END_TEST

/* The log is an older one than what was read out of the ring, and goes on with 10. */
START_TEST(recording_is_switched_on)
{
    reader_scene_leave_log(10);
    static struct ring_fixture unrecorded;
    reader_scene_open_ring(&unrecorded, 0, 700);
    reader_scene_set_records(false);
    reader_scene_lend(&unrecorded, 7);
    reader_scene_read(HF_NEW, NULL);
    reader_scene_publish(&unrecorded, 20);
    reader_scene_expect_from_ring(0, 20);
    reader_scene_expect_nothing_yet();
    reader_scene_change_rings(10, 10);
    live_log_move(&scene.recorder, &scene.second_ring, 10);
    if (_i) {
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, 15);
    }
    reader_scene_set_records(true);
    reader_scene_lend(&scene.second_ring, 2);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_lost(10, 0, HF_UNCOVERED);
    if (!_i) {
        reader_scene_expect_nothing_yet();
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, 15);
    }
    reader_scene_expect_records(10, 25);
    reader_scene_expect_silence();
    ring_fixture_close(&unrecorded);
}
END_TEST

/* The same without a restart: numbers go on. */
START_TEST(recording_begins_where_the_ring_ends)
{
    reader_scene_set_records(false);
    reader_scene_read(HF_NEW, NULL);
    reader_scene_publish(&scene.ring, 20);
    reader_scene_expect_from_ring(0, 20);
    reader_scene_change_rings(20, 20);
    live_log_move(&scene.recorder, &scene.second_ring, 20);
    reader_scene_set_records(true);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 5);
    reader_scene_expect_records(20, 25);
    reader_scene_expect_silence();
}
END_TEST

/* ---- out of the ring ---- */

/* Everything has died, and the ring that is seen then is not the first one since: nobody knows what
 * came between. What the one before had left can still be read. */
START_TEST(a_ring_was_missed_by_who_reads_rings)
{
    reader_scene_set_records(false);
    reader_scene_read(HF_NEW, NULL);
    reader_scene_publish(&scene.ring, 20);
    reader_scene_expect_from_ring(0, 15);
    fake_gate_kill(&scene.gate);
    reader_scene_open_ring(&third_ring, 30, 778);
    reader_scene_lend(&third_ring, 3);
    reader_scene_publish(&third_ring, 5);
    reader_scene_expect_from_ring(15, 20);
    reader_scene_expect_lost(30, 0, HF_UNCOVERED);
    reader_scene_expect_from_ring(30, 35);
    reader_scene_expect_silence();
    forget_third_ring();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reader_again");
    TCase *tests = tcase_create("reader_again");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, reader_scene_begin, reader_scene_end);
    tcase_add_loop_test(tests, a_ring_came_and_went_unseen, 0, 4);
    tcase_add_loop_test(tests, what_only_says_numbers_gives_none_again, 0, 2);
    tcase_add_loop_test(tests, disturbed_while_it_looks_back, 0, 3);
    tcase_add_loop_test(tests, began_behind_the_lost_end, 0, 3);
    tcase_add_test(tests, what_is_still_to_come_is_waited_for);
    tcase_add_test(tests, damage_is_told_once);
    tcase_add_loop_test(tests, old_ends_although_its_numbers_begin_anew, 0, 3);
    tcase_add_loop_test(tests, opened_before_the_position_goes_back, 0, 3);
    tcase_add_test(tests, a_position_whose_datagrams_have_expired);
    tcase_add_loop_test(tests, recording_is_switched_off, 0, 2);
    tcase_add_test(tests, recording_is_switched_off_and_on);
    tcase_add_loop_test(tests, recording_is_switched_on, 0, 2);
    tcase_add_test(tests, recording_begins_where_the_ring_ends);
    tcase_add_test(tests, a_ring_was_missed_by_who_reads_rings);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
