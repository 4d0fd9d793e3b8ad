/* SPDX-License-Identifier: MIT */
/* Segments that were begun and hold nothing, beside others that hold something. A worker may have
 * died right behind such a header, and its successor gone on in the segment before: the header's
 * number says where that one had come to, and bounds nothing. */
#include "worker/archive/recovery.h"

#include <check.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/avro_log_name.h"
#include "tests/lib/archive_rig.h"

#define SEED 4321

static struct archive_rig rig;

static void setup(void)
{
    archive_rig_prepare(&rig);
    archive_rig_start(&rig);
    archive_rig_make_folder(&rig);
}

static void teardown(void)
{
    archive_rig_end(&rig);
}

struct made {
    struct log_maker maker;
    char open[SEGMENT_NAME_SIZE], sealed[SEGMENT_NAME_SIZE];
};

/* An open file in the folder. */
static void make(struct made *made, uint64_t first_seq, int blocks)
{
    archive_rig_make_log(&made->maker, SEED, first_seq, blocks, made->open, made->sealed);
    log_maker_write(rig.channel, made->open, made->maker.bytes, made->maker.size);
}

static void free_all(struct made *first, struct made *second)
{
    log_maker_free(&first->maker);
    log_maker_free(&second->maker);
}

/* Nothing but the sealed file with these records. */
static void expect_alone(const struct made *made, uint64_t records)
{
    archive_rig_check_sealed(&rig, &made->maker, made->sealed, 0, records);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
}

START_TEST(a_bare_segment_does_not_end_the_one_before)
{
    struct made first, bare;
    make(&first, 0, 3);
    make(&bare, 25, 0);
    struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_int_eq(recovered.error, 0);
    ck_assert_uint_eq(recovered.next_seq, 60);
    expect_alone(&first, 60); /* which tells what the bare one would have */
    free_all(&first, &bare);
}
END_TEST

/* As an earlier version has left it. */
START_TEST(nor_one_that_was_sealed_bare)
{
    struct made first, bare;
    make(&bare, 25, 0);
    struct message_recovered recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_uint_eq(recovered.next_seq, 25);
    ck_assert(archive_rig_has(&rig, bare.sealed));
    make(&first, 0, 3);
    recovered = archive_rig_recover(&rig, NULL, NULL);
    ck_assert_int_eq(recovered.error, 0);
    ck_assert_uint_eq(recovered.next_seq, 60);
    archive_rig_check_sealed(&rig, &first.maker, first.sealed, 0, 60);
    ck_assert_int_eq(archive_rig_count(&rig, ".damaged"), 0);
    free_all(&first, &bare);
}
END_TEST

/* Nor where it is a SEAL that asks. */
START_TEST(nor_while_a_segment_is_sealed)
{
    struct made first, bare;
    struct stat status;
    char path[512];
    make(&bare, 25, 0);
    archive_rig_recover(&rig, NULL, NULL);
    make(&first, 0, 3);
    snprintf(path, sizeof path, "%s/%s", rig.channel, first.open);
    ck_assert_int_eq(stat(path, &status), 0);
    struct message_sealed sealed = archive_rig_seal(&rig, first.open, status.st_ino, UINT64_MAX);
    ck_assert_int_eq(sealed.error, 0);
    archive_rig_check_sealed(&rig, &first.maker, first.sealed, 0, 60);
    ck_assert_int_eq(archive_rig_count(&rig, ".damaged"), 0);
    free_all(&first, &bare);
}
END_TEST

/* ---- retention, and what numbers go on with ---- */

static void make_sealed(struct made *made, uint64_t first_seq, int blocks)
{
    archive_rig_make_log(&made->maker, SEED, first_seq, blocks, made->open, made->sealed);
    if (blocks > 0)
        log_maker_seal(&made->maker);
    log_maker_write(rig.channel, made->sealed, made->maker.bytes,
                    blocks > 0 ? made->maker.block_start : made->maker.header_size);
}

/* Nothing may stay but what must. */
static void expire(void)
{
    const struct message_expire limits = {.channel = RIG_CHANNEL, .keep_at_most = 1};
    archive_rig_expire(&rig, &limits);
}

/* It was left behind by the one before, which has the newest records. */
START_TEST(retention_takes_no_bare_one_for_the_newest)
{
    struct made first, bare;
    make_sealed(&first, 0, 3);
    make_sealed(&bare, 25, 0);
    expire();
    ck_assert(archive_rig_has(&rig, first.sealed));
    ck_assert_uint_eq(archive_rig_recover(&rig, NULL, NULL).next_seq, 60);
    expect_alone(&first, 60);
    free_all(&first, &bare);
}
END_TEST

START_TEST(both_stay_where_the_bare_one_tells_more)
{
    struct made first, bare;
    make_sealed(&first, 0, 3);
    make_sealed(&bare, 100, 0);
    expire();
    ck_assert_int_eq(archive_rig_count(&rig, ""), 2);
    ck_assert_uint_eq(archive_rig_recover(&rig, NULL, NULL).next_seq, 100);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 2);
    free_all(&first, &bare);
}
END_TEST

START_TEST(neither_stays_where_another_one_follows)
{
    struct made first, bare, last;
    make_sealed(&first, 0, 3);
    make_sealed(&bare, 25, 0);
    make_sealed(&last, 60, 1);
    expire();
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
    archive_rig_check_sealed(&rig, &last.maker, last.sealed, 60, 20);
    log_maker_free(&last.maker);
    free_all(&first, &bare);
}
END_TEST

START_TEST(nothing_but_a_bare_one_stays)
{
    struct made first, bare;
    make_sealed(&first, 25, 0);
    make_sealed(&bare, 100, 0);
    expire();
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
    ck_assert_uint_eq(archive_rig_recover(&rig, NULL, NULL).next_seq, 100);
    ck_assert(archive_rig_has(&rig, bare.sealed));
    free_all(&first, &bare);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("archive_bare");
    TCase *tcase = tcase_create("bare");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_bare_segment_does_not_end_the_one_before);
    tcase_add_test(tcase, nor_one_that_was_sealed_bare);
    tcase_add_test(tcase, nor_while_a_segment_is_sealed);
    tcase_add_test(tcase, retention_takes_no_bare_one_for_the_newest);
    tcase_add_test(tcase, both_stay_where_the_bare_one_tells_more);
    tcase_add_test(tcase, neither_stays_where_another_one_follows);
    tcase_add_test(tcase, nothing_but_a_bare_one_stays);
    suite_add_tcase(suite, tcase);
    return log_maker_run(suite);
}
