/* SPDX-License-Identifier: MIT */
/* What libholdfast's reader takes for the end, of a file, of a ring, of everything: sound records
 * that lie behind it are never told lost, and what is missing before it always is, and why. */
#include <check.h>
#include <poll.h>
#include <stdio.h>

#include "common/avro_log_header.h"
#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/reader_scene.h"

/* An empty block that was open when the segment was left is cut off when it is sealed: five that
 * were lost behind it are no damage of it. */
START_TEST(sealed_behind_an_empty_block)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 0); /* seals the block: an empty one is open */
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 10);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    uint64_t length = scene.recorder.commit.block_start;
    scene.recorder.maker.next_seq += 5;
    live_log_roll(&scene.recorder);
    ck_assert_uint_eq(scene.recorder.commit.finished_length, length);
    live_log_name(&scene.recorder);
    live_log_seal(&scene.recorder, 0, length);
    live_log_append(&scene.recorder, 3);
    reader_scene_expect_lost(10, 5, HF_UNRECORDED);
    reader_scene_expect_records(15, 18);
}
END_TEST

/* Who wants what comes is not told what was damaged before. Without a ring, the header says how far
 * the last file went. */
START_TEST(new_tells_no_old_damage)
{
    reader_scene_damage_the_end();
    if (_i == 0)
        reader_scene_read(HF_NEW | HF_STRICT, NULL);
    else
        reader_scene_read(HF_JOINED, &(struct hf_start){.at = HF_END});
    for (int i = 0; i < 100; i++, poll(NULL, 0, 10)) {
        int event = hf_next(scene.reader, &scene.datagram);
        ck_assert_msg(event == HF_NONE || event == HF_LIVE, "event %d at %llu", event,
                      (unsigned long long)scene.datagram.seq);
    }
}
END_TEST

/* Its name says with which number it begins. */
START_TEST(new_where_nothing_is_recorded)
{
    scene.recorder.maker.next_seq = 20;
    reader_scene_begin_segment();
    reader_scene_lend(NULL, 0);
    reader_scene_read(HF_NEW, NULL);
    struct hf_lag lag;
    ck_assert_int_eq(hf_lag(scene.reader, &lag), 0);
    ck_assert_uint_eq(lag.next_seq, 20);
    reader_scene_lend(&scene.ring, 3);
    fake_gate_kill(&scene.gate);
    live_log_append(&scene.recorder, 3);
    reader_scene_expect_records(20, 23);
}
END_TEST

/* Likewise of one that can't be read. */
START_TEST(old_ends_before_an_unreadable_file)
{
    static const char blank[4096];
    for (int i = 0; i < 2; i++) {
        reader_scene_begin_segment();
        live_log_append(&scene.recorder, 10);
    }
    live_log_lose(&scene.recorder, 0);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.finished_length);
    live_log_seal(&scene.recorder, 1, scene.recorder.commit.block_start);
    log_maker_write(scene.gate.folder, "blank.avro.open", blank, sizeof blank);
    pthread_mutex_lock(&scene.gate.lock);
    struct fake_segment *segment = &scene.gate.segments[scene.gate.segment_count++];
    *segment = (struct fake_segment){.first_seq = 30, .is_open = true};
    snprintf(segment->path, sizeof segment->path, "%s/blank.avro.open", scene.gate.folder);
    pthread_mutex_unlock(&scene.gate.lock);
    reader_scene_lend(NULL, 0);
    reader_scene_read(HF_OLD, NULL);
    reader_scene_expect_records(0, 20);
    reader_scene_expect_lost(20, 10, HF_UNRECORDED);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

/* Everything has died before the second segment got its name: it gets it when that is mended. */
START_TEST(old_and_a_nameless_segment)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_roll(&scene.recorder);
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 0);
    reader_scene_read(HF_OLD, NULL);
    reader_scene_expect_records(0, 5);
    reader_scene_change_rings(20, 20);
    reader_scene_lend(NULL, 0);
    reader_scene_expect_records(5, 10);
    int event = HF_NONE;
    for (int i = 0; i < 60 && event == HF_NONE; i++) {
        event = hf_next(scene.reader, &scene.datagram);
        poll(NULL, 0, 10);
    }
    ck_assert_msg(event == HF_NONE, "event %d at %llu: %llu lost, %s", event,
                  (unsigned long long)scene.datagram.seq, (unsigned long long)scene.datagram.lost,
                  hf_why_text(scene.datagram.why));
    live_log_name(&scene.recorder);
    reader_scene_expect_records(10, 20);
    ck_assert_int_eq(reader_scene_next(), HF_FINISHED);
}
END_TEST

/* The only file is finished and has nothing in it. */
START_TEST(an_empty_file_with_totals)
{
    const struct avro_log_totals totals = {0};
    reader_scene_begin_segment();
    live_log_lose(&scene.recorder, 0);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
    reader_scene_say_totals(&totals);
    reader_scene_lend(NULL, 0);
    reader_scene_read(_i ? HF_JOINED : HF_OLD, NULL);
    for (int i = 0; i < 60; i++, poll(NULL, 0, 10)) {
        int event = hf_next(scene.reader, &scene.datagram);
        ck_assert_msg(event != HF_LOST, "%llu lost at %llu",
                      (unsigned long long)scene.datagram.lost,
                      (unsigned long long)scene.datagram.seq);
    }
}
END_TEST

/* Likewise in the middle of such a file. */
START_TEST(a_gap_inside_a_file_that_is_finished)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 5);
    live_log_lose(&scene.recorder, 2);
    live_log_append(&scene.recorder, 5);
    live_log_lose(&scene.recorder, 0);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 3);
    uint64_t length = scene.recorder.commit.block_start;
    live_log_roll(&scene.recorder);
    live_log_name(&scene.recorder);
    live_log_seal(&scene.recorder, 0, length);
    reader_scene_expect_records(3, 5);
    reader_scene_expect_lost(5, 2, HF_UNRECORDED);
    reader_scene_expect_records(7, 12);
}
END_TEST

/* Everything died between a record and its commit; recovery found it sound and kept it. With the
 * new ring, or before it is there. */
START_TEST(recovered_behind_the_last_word)
{
    reader_scene_go_live();
    fake_gate_kill(&scene.gate);
    struct live_log *log = &scene.recorder;
    const size_t block = log->maker.block_start;
    ck_assert(log_maker_append(&log->maker));
    log_maker_seal(&log->maker);
    ck_assert_int_eq(
        fd_write_all(log->fd, log->maker.bytes + block, log->maker.write_offset - block, block), 0);
    reader_scene_change_rings(11, 11);
    live_log_seal(log, 0, log->maker.block_start);
    live_log_move(log, &scene.second_ring, 11);
    reader_scene_begin_segment();
    live_log_append(log, 3);
    if (_i)
        reader_scene_lend(&scene.second_ring, 2);
    else
        reader_scene_lend(NULL, 0);
    reader_scene_expect_records(10, _i ? 14 : 11);
}
END_TEST

/* The gate, or the reader, has no memory or descriptor for it. */
START_TEST(a_segment_is_sealed_while_its_ring_is_not_lent)
{
    reader_scene_go_live();
    reader_scene_lend(NULL, 0);
    fake_gate_kill(&scene.gate);
    reader_scene_expect_silence();
    live_log_append(&scene.recorder, 10);
    live_log_roll(&scene.recorder);
    live_log_name(&scene.recorder);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.finished_length);
    live_log_append(&scene.recorder, 5);
    fake_gate_kill(&scene.gate); /* it looks again */
    reader_scene_expect_records(10, 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reader_ends");
    TCase *tests = tcase_create("reader_ends");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, reader_scene_begin, reader_scene_end);
    tcase_add_test(tests, sealed_behind_an_empty_block);
    tcase_add_loop_test(tests, new_tells_no_old_damage, 0, 2);
    tcase_add_test(tests, new_where_nothing_is_recorded);
    tcase_add_test(tests, old_ends_before_an_unreadable_file);
    tcase_add_test(tests, old_and_a_nameless_segment);
    tcase_add_loop_test(tests, an_empty_file_with_totals, 0, 2);
    tcase_add_test(tests, a_gap_inside_a_file_that_is_finished);
    tcase_add_loop_test(tests, recovered_behind_the_last_word, 0, 2);
    tcase_add_test(tests, a_segment_is_sealed_while_its_ring_is_not_lent);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
