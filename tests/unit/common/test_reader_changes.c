/* SPDX-License-Identifier: MIT */
/* Readers of a log whose ring ends, is replaced, begins anew, or isn't there. The story: everything
 * that wrote a channel stops, files are removed and their inode numbers given again, another ring
 * comes or none does; and what the last one said leads no reader astray. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/reader_scene.h"

/* ---- inode numbers ---- */

/* A file of the ring before is removed, and its inode number given to one of this ring's, which is
 * longer. Here the ring before says it of the file that will be read. */
START_TEST(an_inode_number_again)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 10);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
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
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 5);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 10);
    reader_scene_expect_lost(10, 5, HF_UNRECORDED);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
    fake_gate_kill(&scene.gate);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
    reader_scene_change_rings(10, 10);
    live_log_move(&scene.recorder, &scene.second_ring, 10);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 3);
    ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = HF_FIRST}), 0);
    reader_scene_expect_records(0, 13);
    reader_scene_expect_silence();
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
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
