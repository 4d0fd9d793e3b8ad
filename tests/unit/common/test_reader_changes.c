/* SPDX-License-Identifier: MIT */
/* Readers of a log whose ring ends, is replaced, begins anew, or isn't there. The story: everything
 * that wrote a channel stops, files are removed and their inode numbers given again, another ring
 * comes or none does; and what the last one said leads no reader astray. */
#include <check.h>
#include <errno.h>
#include <stdio.h>

#include "common/avro_log_header.h"
#include "common/client/holdfast.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/reader_scene.h"

/* ---- inode numbers ---- */

/* A file of the ring before is removed, and its inode number given to one of this ring's, which is
 * longer. Here the ring before says it of the file that will be read. */
START_TEST(an_inode_number_again)
{
    reader_scene_go_live();
    struct commit_progress last_word = scene.recorder.commit;
    reader_scene_change_rings(10, 10);
    live_log_move(&scene.recorder, &scene.second_ring, 10);
    reader_scene_begin_segment();
    const uint64_t again = scene.recorder.commit.segment_id;
    live_log_append(&scene.recorder, 40);
    for (int i = 0; i < 2; i++) { /* so that this ring doesn't name the file any more */
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, 5);
    }
    if (_i) {
        last_word.finished_id = again;
        last_word.finished_length = last_word.write_offset;
    } else {
        last_word.segment_id = again;
    }
    channel_page_write_commit(scene.ring.ring.page, &last_word);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_expect_records(10, 60);
    reader_scene_expect_silence();
}
END_TEST

/* ---- numbers that are given again ---- */

/* The ring that begins anew is noticed by hf_seek() itself, or before it: what counts is what the
 * program wanted. */
START_TEST(sought_while_numbers_begin_anew)
{
    reader_scene_lose_the_end();
    reader_scene_begin_anew();
    ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_FIRST}), 0);
    reader_scene_expect_records(0, 13);
    reader_scene_expect_silence();
}
END_TEST

/* Nobody can say any more how far the ring before had come: what was read of it before counts for
 * the numbers, and what is sound in the file for the records. */
START_TEST(the_last_word_is_damaged)
{
    reader_scene_lose_the_end();
    const uint64_t start = _i ? 18 : 10; /* the records behind it were found again, or were not */
    if (_i)
        live_log_append(&scene.recorder, 3);
    live_log_lose(&scene.recorder, 0);
    const uint64_t length = scene.recorder.commit.block_start;
    struct channel_public *page = &scene.ring.ring.page->public;
    for (int i = 0; i < 2; i++)
        atomic_fetch_xor((_Atomic uint64_t *)&page->commit[i].segment_id, 1);
    reader_scene_change_rings(start, start);
    live_log_seal(&scene.recorder, 0, length);
    live_log_move(&scene.recorder, &scene.second_ring, start);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 3);
    reader_scene_lend(&scene.second_ring, 2);
    if (!_i)
        reader_scene_expect_lost(10, 0, HF_UNCOVERED);
    reader_scene_expect_records(_i ? 15 : 10, start + 3);
    reader_scene_expect_silence();
}
END_TEST

/* ---- no ring ---- */

static void two_segments(void)
{
    for (int i = 0; i < 2; i++) {
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, 10);
    }
    live_log_lose(&scene.recorder, 0);
}

static void forget_ring(void)
{
    reader_scene_change_rings(20, 20);
    reader_scene_lend(NULL, 0);
}

static void seal_both(uint64_t missing)
{
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.finished_length);
    live_log_seal(&scene.recorder, 1, scene.recorder.commit.block_start - missing);
}

/* HF_OLD has promised what there was when it was opened, also when no ring says so any more. */
START_TEST(what_was_promised_is_removed)
{
    two_segments();
    reader_scene_read(HF_OLD, NULL);
    reader_scene_expect_records(0, 5);
    forget_ring();
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.segment_count = 0;
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_expect_records(5, 10); /* it has that file */
    reader_scene_expect_lost(10, 10, HF_EXPIRED);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

START_TEST(what_was_promised_is_cut_off)
{
    two_segments();
    reader_scene_read(HF_OLD, NULL);
    reader_scene_expect_records(0, 5);
    forget_ring();
    seal_both(200);
    reader_scene_expect_records(5, 18);
    reader_scene_expect_lost(18, 2, HF_DAMAGED);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

/* The last file's header says what it has; nothing else does. */
START_TEST(the_last_file_is_damaged_at_its_end)
{
    reader_scene_damage_the_end();
    reader_scene_read(_i ? HF_JOINED : HF_OLD, NULL);
    reader_scene_expect_records(0, 9);
    reader_scene_expect_lost(9, 1, HF_DAMAGED);
    if (_i == 0) {
        ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
        return;
    }
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_expect_silence();
}
END_TEST

/* The reader had come to the end of what was sound when the file was sealed, and its header said
 * nothing yet. */
START_TEST(the_last_file_is_sealed_while_it_is_read)
{
    const struct avro_log_totals totals = {.last_seq = 11, .records = 12};
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 0);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 10);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_change_rings(10, 10);
    reader_scene_lend(NULL, 0);
    reader_scene_expect_silence();
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
    reader_scene_say_totals(&totals);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_lost(10, 2, HF_DAMAGED);
    reader_scene_expect_silence();
}
END_TEST

static void seal_first(void)
{
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.finished_length);
}

/* HF_OLD ends where it would have, whatever is recorded once there is a ring. */
START_TEST(a_ring_comes_while_what_is_old_is_read)
{
    two_segments();
    seal_first();
    if (_i) /* else the last one is not finished */
        live_log_seal(&scene.recorder, 1, scene.recorder.commit.block_start);
    reader_scene_lend(NULL, 0);
    reader_scene_read(HF_OLD, NULL);
    struct hf_lag lag;
    ck_assert_int_eq(hf_lag(scene.reader, &lag), 0);
    ck_assert_uint_eq(lag.opened_seq, 20);
    reader_scene_expect_records(0, 5);
    reader_scene_lend(&scene.ring, 3);
    fake_gate_kill(&scene.gate);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_expect_records(5, 20);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

/* Nothing said how much there was: then it ends with what there is when the ring comes. */
START_TEST(a_ring_comes_and_nothing_was_known)
{
    two_segments();
    reader_scene_lend(NULL, 0);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.find_error = EIO;
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_read(HF_OLD, &(struct hf_start){.at = HF_SEQ, .seq = 5});
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.find_error = 0;
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_lend(&scene.ring, 3);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_records(5, 20);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

static uint64_t begin_of(unsigned mode, const struct hf_start *start)
{
    struct hf_lag lag;
    reader_scene_read(mode, start);
    ck_assert_int_eq(hf_lag(scene.reader, &lag), 0);
    reader_scene_close_reader();
    return lag.next_seq;
}

/* Everything has died, and the last file is not finished yet. */
START_TEST(starts_in_an_unfinished_file)
{
    static uint8_t buffer[1024];
    struct avro_log_record record;
    log_maker_record(LIVE_LOG_SEED, 300, 15, buffer, &record);
    const struct hf_start last = {.at = HF_LAST};
    const struct hf_start time = {.at = HF_TIME,
                                  .time_ns = (int64_t)avro_log_record_time_ns(&record)};
    two_segments();
    seal_first();
    reader_scene_lend(NULL, 0);
    ck_assert_uint_eq(begin_of(HF_JOINED, &last), 19);
    ck_assert_uint_eq(begin_of(HF_NEW, NULL), 20);
    ck_assert_uint_eq(begin_of(HF_JOINED, &time), 15);
    reader_scene_read(HF_OLD, &last);
    reader_scene_expect_record(19);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

/* One that was made and not begun has nothing in it. */
START_TEST(the_last_file_is_blank)
{
    static const char blank[4096];
    two_segments();
    seal_both(0);
    log_maker_write(scene.gate.folder, "blank.avro.open", blank, sizeof blank);
    pthread_mutex_lock(&scene.gate.lock);
    struct fake_segment *segment = &scene.gate.segments[scene.gate.segment_count++];
    *segment = (struct fake_segment){.first_seq = 20, .is_open = true};
    snprintf(segment->path, sizeof segment->path, "%s/blank.avro.open", scene.gate.folder);
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_lend(NULL, 0);
    reader_scene_read(_i ? HF_JOINED : HF_OLD, NULL);
    reader_scene_expect_records(0, 20);
    ck_assert_int_eq(reader_scene_next(), _i ? HF_LIVE : HF_FINISHED);
}
END_TEST

/* Its writer lives on, but the gate can't lend it for a while: what is written meanwhile is found
 * in the files, be they sealed by then or not. */
START_TEST(a_living_ring_is_not_lent_for_a_while)
{
    reader_scene_go_live();
    reader_scene_lend(NULL, 0);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_silence();
    live_log_append(&scene.recorder, 10);
    reader_scene_begin_segment();
    if (_i)
        live_log_seal(&scene.recorder, 0, scene.recorder.commit.finished_length);
    live_log_append(&scene.recorder, 5);
    fake_gate_kill(&scene.gate); /* it looks again */
    reader_scene_expect_records(10, 20);
}
END_TEST

/* Opened while the gate had no ring to lend; a worker had died between a record and its commit, and
 * its successor goes on in the ring that there always was. */
START_TEST(opened_before_a_living_ring_was_lent)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_write_in_vain(&scene.recorder);
    reader_scene_lend(NULL, 0);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 11);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    reader_scene_expect_nothing_yet();
    reader_scene_lend(&scene.ring, 3);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_nothing_yet();
    live_log_append(&scene.recorder, 5);
    reader_scene_expect_records(11, 15);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reader_changes");
    TCase *tests = tcase_create("reader_changes");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, reader_scene_begin, reader_scene_end);
    tcase_add_loop_test(tests, an_inode_number_again, 0, 2);
    tcase_add_test(tests, sought_while_numbers_begin_anew);
    tcase_add_loop_test(tests, the_last_word_is_damaged, 0, 2);
    tcase_add_test(tests, what_was_promised_is_removed);
    tcase_add_test(tests, what_was_promised_is_cut_off);
    tcase_add_loop_test(tests, the_last_file_is_damaged_at_its_end, 0, 2);
    tcase_add_test(tests, the_last_file_is_sealed_while_it_is_read);
    tcase_add_loop_test(tests, a_ring_comes_while_what_is_old_is_read, 0, 2);
    tcase_add_test(tests, a_ring_comes_and_nothing_was_known);
    tcase_add_test(tests, starts_in_an_unfinished_file);
    tcase_add_loop_test(tests, the_last_file_is_blank, 0, 2);
    tcase_add_loop_test(tests, a_living_ring_is_not_lent_for_a_while, 0, 2);
    tcase_add_test(tests, opened_before_a_living_ring_was_lent);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
