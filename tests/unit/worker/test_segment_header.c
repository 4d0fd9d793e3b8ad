/* SPDX-License-Identifier: MIT */
/* What the archive puts into headers: at a seal, what is in the segment, and the latest time of the
 * log up to there, which never falls though clocks step; which recording a segment is part of, also
 * by a successor; the same after a recovery and in a mended file. Segments of an older version are
 * sealed and recovered as they always were. */
#include "worker/archive/segment_header.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/fd.h"
#include "tests/lib/archive_rig.h"
#include "worker/archive/folder.h"

#define SEGMENT (256 * 1024)
#define NOON_US 1760000000000000

static struct archive_rig rig;

static void setup(void)
{
    archive_rig_prepare(&rig);
    archive_rig_start(&rig);
}

static void teardown(void)
{
    archive_rig_end(&rig);
}

/* One block of `count` records whose receive times are around this second after noon: the first
 * one is the latest, the second one the earliest. Returns where the block ends. */
static size_t write_block(struct log_maker *maker, int64_t second, int count)
{
    for (int i = 0; i < count; i++) {
        int64_t time = NOON_US + second * 1000000 + (i == 0 ? 999 : i == 1 ? -999 : i);
        const struct avro_log_record record = {.seq = (int64_t)maker->next_seq++,
                                               .received_at_us = time,
                                               .received_ns = 7,
                                               .source = "10.0.0.7:1",
                                               .source_length = 10,
                                               .payload_length = 0};
        uint8_t *start = maker->bytes + maker->write_offset;
        uint8_t *end = avro_log_write_record_crc(start, avro_log_write_record_head(start, &record));
        maker->write_offset += (size_t)(end - start);
        maker->block_records++;
    }
    log_maker_seal(maker);
    return maker->block_start;
}

static uint64_t time_ns(int64_t second, int64_t us)
{
    return (uint64_t)(NOON_US + second * 1000000 + us) * 1000 + 7;
}

static void begin(struct log_maker *maker, const struct segment_grant *grant, uint64_t first_seq)
{
    log_maker_begin(maker, SEGMENT, RIG_CHANNEL, first_seq, 1);
    memcpy(maker->identity.sync, grant->sync, sizeof grant->sync);
    memcpy(maker->identity.log_id, grant->log_id, sizeof grant->log_id);
    avro_log_write_header(maker->bytes, &maker->identity);
}

static void write_bytes(int fd, const struct log_maker *maker)
{
    ck_assert_int_eq(pwrite(fd, maker->bytes, maker->size, 0), (ssize_t)maker->size);
}

static void read_header(const char *name, struct avro_log_identity *ret)
{
    const char *what;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", rig.channel, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(avro_log_load_header(fd, ret, &what) > 0, "%s: %s", name, what);
    fd_close(&fd);
}

static void expect_totals(const char *name, const struct avro_log_totals *wanted)
{
    struct avro_log_identity got;
    read_header(name, &got);
    ck_assert_msg(got.has_totals, "%s has no totals", name);
    ck_assert_uint_eq(got.totals.last_seq, wanted->last_seq);
    ck_assert_uint_eq(got.totals.records, wanted->records);
    ck_assert_uint_eq(got.totals.first_time_ns, wanted->first_time_ns);
    ck_assert_uint_eq(got.totals.last_time_ns, wanted->last_time_ns);
    ck_assert_uint_eq(got.totals.latest_ns, wanted->latest_ns);
}

/* Open, fill with ten records around this second, begin, seal; its name is left in ret_name. */
static void seal_segment(uint64_t first_seq, int64_t second, char ret_name[SEGMENT_NAME_SIZE])
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE];
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, SEGMENT, &fd);
    begin(&maker, &grant, first_seq);
    uint64_t length = write_block(&maker, second, 10);
    write_bytes(fd, &maker);
    avro_log_segment_name(RIG_CHANNEL, first_seq, maker.identity.created_ns, open_name);
    archive_rig_begin(&rig, grant.name, open_name);
    struct message_sealed sealed = archive_rig_seal(&rig, open_name, grant.id, length);
    ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
    snprintf(ret_name, SEGMENT_NAME_SIZE, "%s", sealed.name);
    fd_close(&fd);
    log_maker_free(&maker);
}

START_TEST(test_a_seal_says_what_is_in_the_segment)
{
    char name[SEGMENT_NAME_SIZE];
    seal_segment(500, 10, name);
    expect_totals(name, &(struct avro_log_totals){.last_seq = 509,
                                                  .records = 10,
                                                  .first_time_ns = time_ns(10, -999),
                                                  .last_time_ns = time_ns(10, 999),
                                                  .latest_ns = time_ns(10, 999)});
}
END_TEST

START_TEST(test_the_latest_time_never_falls)
{
    char name[SEGMENT_NAME_SIZE];
    static const int64_t seconds[] = {100, 40, 60, 200}; /* the clock was set back twice */
    uint64_t latest = 0;
    for (uint64_t i = 0; i < 4; i++) {
        if (i == 2)
            archive_rig_replace(&rig);
        seal_segment(i * 10, seconds[i], name);
        uint64_t here = time_ns(seconds[i], 999);
        latest = here > latest ? here : latest;
        expect_totals(name, &(struct avro_log_totals){.last_seq = i * 10 + 9,
                                                      .records = 10,
                                                      .first_time_ns = time_ns(seconds[i], -999),
                                                      .last_time_ns = here,
                                                      .latest_ns = latest});
    }
}
END_TEST

START_TEST(test_segments_of_one_recording_bear_one_id)
{
    struct avro_log_identity first, second;
    char name[SEGMENT_NAME_SIZE];
    seal_segment(0, 1, name);
    read_header(name, &first);
    ck_assert(avro_log_id_is_known(first.log_id));
    archive_rig_replace(&rig);
    seal_segment(10, 2, name);
    read_header(name, &second);
    ck_assert_mem_eq(first.log_id, second.log_id, sizeof first.log_id);
    int fd;
    struct segment_grant other = archive_rig_open(&rig, "other", SEGMENT, &fd);
    ck_assert(avro_log_id_is_known(other.log_id));
    ck_assert_mem_ne(first.log_id, other.log_id, sizeof first.log_id);
    fd_close(&fd);
}
END_TEST

/* In use, and still named as it was prepared. */
START_TEST(test_the_id_of_a_segment_that_was_just_begun)
{
    struct log_maker maker;
    int fd, next_fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, SEGMENT, &fd);
    begin(&maker, &grant, 0);
    write_bytes(fd, &maker);
    struct segment_grant next = archive_rig_open(&rig, RIG_CHANNEL, SEGMENT, &next_fd);
    ck_assert_mem_eq(next.log_id, grant.log_id, sizeof grant.log_id);
    fd_close(&fd);
    fd_close(&next_fd);
    log_maker_free(&maker);
}
END_TEST

/* Two open files: the earlier one has the later times. */
START_TEST(test_recovery_says_it_too)
{
    char open_name[2][SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    seal_segment(0, 1, name); /* makes the folder */
    for (int i = 0; i < 2; i++) {
        struct log_maker maker;
        log_maker_begin(&maker, SEGMENT, RIG_CHANNEL, 100 + (uint64_t)i * 100, 1);
        write_block(&maker, 50 - i * 20, 5);
        avro_log_segment_name(RIG_CHANNEL, maker.identity.first_seq, maker.identity.created_ns,
                              open_name[i]);
        log_maker_write(rig.channel, open_name[i], maker.bytes, maker.size);
        log_maker_free(&maker);
    }
    ck_assert_uint_eq(archive_rig_recover(&rig, NULL, NULL).files, 2);
    for (int i = 0; i < 2; i++) {
        folder_number_name(open_name[i], AVRO_LOG_SUFFIX, 1, name);
        expect_totals(name, &(struct avro_log_totals){.last_seq = 104 + (uint64_t)i * 100,
                                                      .records = 5,
                                                      .first_time_ns = time_ns(50 - i * 20, -999),
                                                      .last_time_ns = time_ns(50 - i * 20, 999),
                                                      .latest_ns = time_ns(50, 999)});
    }
}
END_TEST

/* Its header is lost: the mended file gets one, with the id of the recording around it. */
START_TEST(test_a_mended_file_says_it_too)
{
    struct log_maker maker;
    struct avro_log_identity before, after;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    seal_segment(0, 90, name);
    read_header(name, &before);
    log_maker_begin(&maker, SEGMENT, RIG_CHANNEL, 100, 1);
    write_block(&maker, 50, 5);
    write_block(&maker, 51, 5);
    memset(maker.bytes, 0, 100);
    avro_log_segment_name(RIG_CHANNEL, 100, maker.identity.created_ns, open_name);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    ck_assert_uint_eq(archive_rig_recover(&rig, NULL, NULL).files, 1);
    ck_assert_int_eq(archive_rig_count(&rig, AVRO_LOG_DAMAGED_SUFFIX), 1);
    folder_number_name(open_name, AVRO_LOG_SUFFIX, 1, name);
    expect_totals(name, &(struct avro_log_totals){.last_seq = 109,
                                                  .records = 10,
                                                  .first_time_ns = time_ns(50, -999),
                                                  .last_time_ns = time_ns(51, 999),
                                                  .latest_ns = time_ns(90, 999)});
    read_header(name, &after);
    ck_assert_mem_eq(before.log_id, after.log_id, sizeof before.log_id);
    log_maker_free(&maker);
}
END_TEST

/* Sealed by length, and found open: in both cases it stays what it was, byte by byte. */
START_TEST(test_segments_of_an_older_version)
{
    struct avro_log_identity identity;
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    for (uint64_t first = 0; first < 200; first += 100) {
        uint8_t *bytes = NULL;
        int fd;
        struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, SEGMENT, &fd);
        begin(&maker, &grant, first);
        log_maker_age(&maker);
        uint64_t length = write_block(&maker, 5, 5);
        write_bytes(fd, &maker);
        fd_close(&fd);
        avro_log_segment_name(RIG_CHANNEL, first, maker.identity.created_ns, open_name);
        archive_rig_begin(&rig, grant.name, open_name);
        if (first == 0)
            ck_assert_int_eq(archive_rig_seal(&rig, open_name, grant.id, length).error, 0);
        else
            ck_assert_uint_eq(archive_rig_recover(&rig, NULL, NULL).files, 1);
        folder_number_name(open_name, AVRO_LOG_SUFFIX, 1, name);
        ck_assert_int_eq(archive_rig_read(&rig, name, &bytes), (long)length);
        ck_assert_mem_eq(bytes, maker.bytes, length);
        read_header(name, &identity);
        ck_assert(!identity.has_totals);
        free(bytes);
        log_maker_free(&maker);
    }
    seal_segment(300, 4, name);
    expect_totals(name, &(struct avro_log_totals){.last_seq = 309,
                                                  .records = 10,
                                                  .first_time_ns = time_ns(4, -999),
                                                  .last_time_ns = time_ns(4, 999),
                                                  .latest_ns = time_ns(4, 999)});
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("segment_header");
    TCase *everything = tcase_create("everything");
    tcase_set_timeout(everything, 60);
    tcase_add_checked_fixture(everything, setup, teardown);
    tcase_add_test(everything, test_a_seal_says_what_is_in_the_segment);
    tcase_add_test(everything, test_the_latest_time_never_falls);
    tcase_add_test(everything, test_segments_of_one_recording_bear_one_id);
    tcase_add_test(everything, test_the_id_of_a_segment_that_was_just_begun);
    tcase_add_test(everything, test_recovery_says_it_too);
    tcase_add_test(everything, test_a_mended_file_says_it_too);
    tcase_add_test(everything, test_segments_of_an_older_version);
    suite_add_tcase(suite, everything);
    return log_maker_run(suite);
}
