/* SPDX-License-Identifier: MIT */
/* What a reader finds in a sound log file: sealed, still open, being written just then, and in each
 * state that a killed recorder or its successor leaves. */
#include "common/avro_log_scan.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/avro_log_end.h"
#include "common/avro_log_window.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/log_reading.h"

START_TEST(test_sealed_file)
{
    struct log_maker maker;
    struct log_reading reading;
    log_reading_make(&maker, 5, 20, false);
    log_reading_scan_bytes(&maker, maker.block_start, &log_reading_sealed, &reading);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.records, 100);
    ck_assert_uint_eq(reading.summary.blocks, 5);
    ck_assert_uint_eq(reading.summary.first_seq, LOG_READING_FIRST);
    ck_assert_uint_eq(reading.summary.last_seq, LOG_READING_FIRST + 99);
    ck_assert_uint_eq(reading.summary.missing, 0);
    ck_assert_str_eq(reading.summary.identity.channel, "engine");
    ck_assert(reading.summary.last_block.sealed);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_gaps_and_losses_are_summed_up)
{
    struct log_maker maker;
    struct log_reading reading;
    struct avro_log_record record;
    uint8_t payload[64];
    uint64_t dropped = 0, cut = 0, quarantined = 0;
    log_reading_make(&maker, 2, 200, false);
    log_maker_skip(&maker, 7);
    for (int i = 0; i < 200; i++)
        ck_assert(log_maker_append(&maker));
    log_maker_seal(&maker);
    for (uint64_t seq = LOG_READING_FIRST; seq < maker.next_seq; seq++) {
        if (seq >= LOG_READING_FIRST + 400 && seq < LOG_READING_FIRST + 407)
            continue;
        log_maker_record(LOG_READING_SEED, 60, seq, payload, &record);
        dropped += (uint64_t)record.lost_before;
        cut += (uint64_t)record.cut;
        quarantined += (uint64_t)record.flags;
    }
    log_reading_scan_bytes(&maker, maker.block_start, &log_reading_sealed, &reading);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.records, 600);
    ck_assert_uint_eq(reading.summary.gaps, 1);
    ck_assert_uint_eq(reading.summary.missing, 7);
    ck_assert_uint_eq(reading.summary.lost_before, dropped);
    ck_assert_uint_eq(reading.summary.cut_bytes, cut);
    ck_assert_uint_eq(reading.summary.quarantined, quarantined);
    ck_assert_uint_gt(dropped, 0);
    ck_assert_uint_gt(cut, 0);
    ck_assert_uint_gt(quarantined, 0);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_open_file_ends_in_an_open_block_and_zeros)
{
    struct log_maker maker;
    struct log_reading reading;
    log_reading_make(&maker, 3, 20, true);
    log_reading_scan_bytes(&maker, maker.size, &log_reading_open, &reading);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.records, 60);
    ck_assert_uint_eq(reading.summary.last_block.offset, maker.block_start);
    ck_assert_uint_eq(reading.summary.last_block.count, 20);
    ck_assert_uint_eq(reading.summary.last_block.size,
                      maker.write_offset - maker.block_start - AVRO_LOG_BLOCK_HEADER_SIZE);
    ck_assert(!reading.summary.last_block.sealed);
    log_reading_scan_bytes(&maker, maker.size, &log_reading_sealed,
                           &reading); /* a sealed file must not look like that */
    ck_assert_uint_gt(reading.summary.faults, 0);
    log_reading_expect(&reading, LOG_READING_FIRST, maker.next_seq);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_killed_between_sync_marker_and_header)
{
    struct log_maker maker;
    struct log_reading reading;
    log_reading_make(&maker, 3, 20, true);
    memcpy(maker.bytes + maker.write_offset, maker.identity.sync, AVRO_LOG_SYNC_SIZE);
    log_reading_scan_bytes(&maker, maker.size, &log_reading_open, &reading);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.records, 60);
    log_maker_free(&maker);
}
END_TEST

/* Sealed, but not committed: the successor goes on at the committed offset, over the sync marker
 * and the next header. */
START_TEST(test_successor_overwrites_an_uncommitted_seal)
{
    struct log_maker maker, before;
    struct log_reading reading;
    log_reading_make(&maker, 3, 20, true);
    before = maker;
    log_maker_seal(&maker);
    maker.block_start = before.block_start;
    maker.write_offset = before.write_offset;
    maker.block_records = before.block_records;
    for (int i = 0; i < 5; i++) {
        ck_assert(log_maker_append(&maker));
        log_reading_scan_bytes(&maker, maker.size, &log_reading_open, &reading);
        ck_assert_uint_eq(reading.summary.faults, 0);
        ck_assert_uint_eq(reading.summary.records, 61 + (uint64_t)i);
        ck_assert_uint_eq(reading.summary.last_block.offset, before.block_start);
    }
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_half_a_record_at_the_end)
{
    struct log_maker maker;
    struct log_reading reading;
    log_reading_make(&maker, 2, 20, true);
    size_t from = maker.write_offset;
    ck_assert(log_maker_append(&maker));
    for (size_t whole = from; whole < maker.write_offset; whole++) {
        struct log_maker half = maker;
        half.bytes = malloc(maker.size);
        memcpy(half.bytes, maker.bytes, maker.size);
        memset(half.bytes + whole, 0, maker.write_offset - whole);
        if (memcmp(half.bytes, maker.bytes, maker.size) !=
            0) { /* a record may end in a zero byte */
            log_reading_scan_bytes(&half, half.size, &log_reading_open, &reading);
            ck_assert_uint_eq(reading.summary.faults, 0);
            ck_assert_uint_eq(reading.summary.records, 40);
        }
        free(half.bytes);
    }
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_limits_end_the_scan)
{
    struct log_maker maker;
    struct log_reading reading;
    log_reading_make(&maker, 4, 20, true);
    const struct avro_log_scan_options by_seq = {.open = true, .seq_end = LOG_READING_FIRST + 33};
    log_reading_scan_bytes(&maker, maker.size, &by_seq, &reading);
    ck_assert_uint_eq(reading.summary.records, 33);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.last_block.count, 13);
    size_t committed = maker.write_offset;
    ck_assert(log_maker_append(&maker));
    const struct avro_log_scan_options by_size = {
        .open = true, .seq_end = UINT64_MAX, .size_end = committed};
    log_reading_scan_bytes(&maker, maker.size, &by_size, &reading);
    ck_assert_uint_eq(reading.summary.records, 80);
    ck_assert_uint_eq(reading.summary.faults, 0);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_the_end_without_reading_all)
{
    struct log_maker maker;
    struct avro_log_summary summary;
    for (int blocks = 1; blocks <= 40; blocks += 13) {
        log_reading_make(&maker, blocks, 20, false);
        int fd = log_maker_memfd(maker.bytes, maker.block_start);
        ck_assert_int_eq(avro_log_look_at_end(fd, &summary), 0);
        ck_assert_uint_eq(summary.last_seq, maker.next_seq - 1);
        ck_assert_uint_eq(summary.faults, 0);
        ck_assert_uint_eq(summary.records, blocks == 1 ? 20 : 40); /* of the last blocks alone */
        close(fd);
        maker.bytes[maker.block_start - 30] ^=
            1; /* the last record is damaged: the one before it is the last */
        fd = log_maker_memfd(maker.bytes, maker.block_start);
        ck_assert_int_eq(avro_log_look_at_end(fd, &summary), 0);
        ck_assert_uint_eq(summary.last_seq, maker.next_seq - 2);
        ck_assert_uint_gt(summary.faults, 0);
        close(fd);
        log_maker_free(&maker);
    }
    log_maker_begin(&maker, 64 * 1024, "engine", 0, LOG_READING_SEED);
    int fd = log_maker_memfd(maker.bytes, maker.header_size);
    ck_assert_int_eq(avro_log_look_at_end(fd, &summary), 0);
    ck_assert_uint_eq(summary.records, 0);
    ck_assert_uint_eq(summary.faults, 0);
    close(fd);
    log_maker_free(&maker);
}
END_TEST

/* However large the holes around it are. */
START_TEST(test_the_extent_of_a_file_with_holes)
{
    static const uint64_t ends[] = {1, 4096, 65536, 65537, 1 << 20, 300000000, 5000000000000};
    static const uint8_t byte = 0xa5;
    uint64_t extent;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int fd = memfd_create("holes", MFD_CLOEXEC);
        ck_assert(fd >= 0 && ftruncate(fd, (off_t)8 << 40) == 0);
        ck_assert_int_eq(avro_log_window_extent(fd, &extent), 0);
        ck_assert_uint_eq(extent, 0);
        ck_assert(pwrite(fd, &byte, 1, (off_t)ends[i] / 3) == 1);
        ck_assert(pwrite(fd, &byte, 1, (off_t)ends[i] - 1) == 1);
        ck_assert_int_eq(avro_log_window_extent(fd, &extent), 0);
        ck_assert_uint_eq(extent, ends[i]);
        close(fd);
    }
}
END_TEST

/* Many blocks, each near the window's border once. */
START_TEST(test_a_file_larger_than_the_window)
{
    struct log_maker maker;
    struct avro_log_summary summary;
    log_maker_begin(&maker, 9 * 1024 * 1024, "engine", 0, LOG_READING_SEED);
    maker.payload_max = 65507;
    while (log_maker_append(&maker))
        if (maker.write_offset - maker.block_start >= AVRO_LOG_BLOCK_SIZE)
            log_maker_seal(&maker);
    log_maker_seal(&maker);
    int fd = log_maker_memfd(maker.bytes, maker.block_start);
    ck_assert_int_eq(avro_log_scan(fd, &log_reading_sealed, NULL, &summary), 0);
    ck_assert_uint_eq(summary.faults, 0);
    ck_assert_uint_eq(summary.records, maker.next_seq);
    close(fd);
    log_maker_free(&maker);
}
END_TEST

/* A writer that goes on while the file is read, just behind what is in the reader's window. */
struct writer {
    const struct log_maker *maker;
    int fd;
};

static int write_the_rest(void *context, const struct avro_log_found *found)
{
    struct writer *writer = context;
    if (found->record.seq == 0) /* the window is full of what was there before */
        ck_assert_int_eq(pwrite(writer->fd, writer->maker->bytes, writer->maker->block_start, 0),
                         writer->maker->block_start);
    return 0;
}

START_TEST(test_a_file_that_is_written_meanwhile)
{
    static size_t blocks[4096];
    size_t count = 0;
    struct log_maker maker;
    struct avro_log_summary summary;
    log_maker_begin(&maker, 3 * 1024 * 1024, "engine", 0, LOG_READING_SEED);
    maker.payload_max = 5000;
    blocks[count++] = maker.block_start;
    while (log_maker_append(&maker)) {
        if (maker.write_offset - maker.block_start < 10000)
            continue;
        log_maker_seal(&maker);
        blocks[count++] = maker.block_start;
    }
    log_maker_seal(&maker);
    for (size_t i = 0; i < 400; i++) {
        /* Here and there, and at each byte around the end of a block. */
        size_t end = i < 200 ? maker.header_size + 10000 + i * 4001 : blocks[40] - 100 + (i - 200);
        size_t block = 0;
        while (block + 1 < count && blocks[block + 1] <= end)
            block++;
        struct writer writer = {.maker = &maker, .fd = log_maker_memfd(maker.bytes, end)};
        ck_assert_int_eq(ftruncate(writer.fd, 4 * 1024 * 1024), 0);
        uint8_t header[AVRO_LOG_BLOCK_HEADER_SIZE];
        avro_log_write_block_header(header, 0, 0); /* written last */
        ck_assert_int_gt(pwrite(writer.fd, header, sizeof header, (off_t)blocks[block]), 0);
        const struct avro_log_visitor visitor = {.context = &writer, .record = write_the_rest};
        ck_assert_int_eq(avro_log_scan(writer.fd, &log_reading_open, &visitor, &summary), 0);
        ck_assert_msg(summary.faults == 0 && summary.missing == 0, "%zu: %s, %llu records", end,
                      summary.fault_what, (unsigned long long)summary.records);
        ck_assert_uint_eq(summary.records, maker.next_seq);
        close(writer.fd);
    }
    log_maker_free(&maker);
}
END_TEST

/* A recorder that begins a prepared segment, in its order: the file's header, then of each block
 * the records and the marker, the next block's header, and its own. */
struct beginner {
    const struct log_maker *maker;
    const size_t *blocks; /* where each begins; the last one is empty */
    size_t count;
    atomic_int fd; /* to write to; -1: not yet; -2: no more */
    uint64_t random;
};

static void write_part(const struct beginner *beginner, int fd, size_t from, size_t end)
{
    ck_assert(pwrite(fd, beginner->maker->bytes + from, end - from, (off_t)from) ==
              (ssize_t)(end - from));
}

static void begin_segment(const struct beginner *beginner, int fd)
{
    uint8_t open_header[AVRO_LOG_BLOCK_HEADER_SIZE];
    const size_t *blocks = beginner->blocks;
    avro_log_write_block_header(open_header, 0, 0);
    write_part(beginner, fd, 0, beginner->maker->header_size);
    for (size_t i = 0; i + 1 < beginner->count; i++) {
        write_part(beginner, fd, blocks[i] + AVRO_LOG_BLOCK_HEADER_SIZE, blocks[i + 1]);
        ck_assert(pwrite(fd, open_header, sizeof open_header, (off_t)blocks[i + 1]) > 0);
        write_part(beginner, fd, blocks[i], blocks[i] + AVRO_LOG_BLOCK_HEADER_SIZE);
    }
}

static void *begin_segments(void *context)
{
    struct beginner *beginner = context;
    for (int fd; (fd = atomic_load(&beginner->fd)) != -2;) {
        if (fd < 0)
            continue;
        for (uint64_t left = log_maker_random(&beginner->random) % 40000; left; left--)
            atomic_load(&beginner->fd);
        begin_segment(beginner, fd);
        atomic_store(&beginner->fd, -1);
    }
    return NULL;
}

/* Whoever has seen a record of it has not seen a file without header, however he looked. */
START_TEST(test_a_file_that_is_begun_meanwhile)
{
    static size_t blocks[100];
    struct log_maker maker;
    struct avro_log_summary summary;
    pthread_t thread;
    int seen = 0;
    log_maker_begin(&maker, 2 * 1024 * 1024, "engine", 0, LOG_READING_SEED);
    struct beginner beginner = {
        .maker = &maker, .blocks = blocks, .fd = -1, .random = log_maker_seed(1)};
    blocks[beginner.count++] = maker.block_start;
    while (log_maker_append(&maker)) {
        if (maker.write_offset - maker.block_start < AVRO_LOG_BLOCK_SIZE)
            continue;
        log_maker_seal(&maker);
        blocks[beginner.count++] = maker.block_start;
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, begin_segments, &beginner), 0);
    for (int i = 0; i < 200; i++) {
        int fd = memfd_create("segment", MFD_CLOEXEC);
        ck_assert(fd >= 0 && ftruncate(fd, 2 * 1024 * 1024) == 0);
        atomic_store(&beginner.fd, fd);
        ck_assert_int_eq(avro_log_scan(fd, &log_reading_open, NULL, &summary), 0);
        ck_assert_msg(summary.records == 0 || summary.faults == 0, "%d: %s, %llu records", i,
                      summary.fault_what, (unsigned long long)summary.records);
        seen += summary.records > 0;
        while (atomic_load(&beginner.fd) != -1)
            ;
        close(fd);
    }
    atomic_store(&beginner.fd, -2);
    pthread_join(thread, NULL);
    ck_assert_msg(seen > 0, "nothing was written while it was read");
    log_maker_free(&maker);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("avro_log_scan");
    TCase *tests = tcase_create("sound files");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_sealed_file);
    tcase_add_test(tests, test_gaps_and_losses_are_summed_up);
    tcase_add_test(tests, test_open_file_ends_in_an_open_block_and_zeros);
    tcase_add_test(tests, test_killed_between_sync_marker_and_header);
    tcase_add_test(tests, test_successor_overwrites_an_uncommitted_seal);
    tcase_add_test(tests, test_half_a_record_at_the_end);
    tcase_add_test(tests, test_limits_end_the_scan);
    tcase_add_test(tests, test_the_end_without_reading_all);
    tcase_add_test(tests, test_the_extent_of_a_file_with_holes);
    tcase_add_test(tests, test_a_file_larger_than_the_window);
    tcase_add_test(tests, test_a_file_that_is_written_meanwhile);
    tcase_add_test(tests, test_a_file_that_is_begun_meanwhile);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
