/* SPDX-License-Identifier: MIT */
/* What a reader finds in a log file. First sound files: sealed, still open, and in each state that
 * a killed recorder or its successor leaves. Then damage: every byte wrong, every truncation, lost
 * pages, foreign bytes. Whatever the damage, no record may come back that was not written, what
 * lies in other blocks must come back, and a copy of what is sound must be without fault. */
#include "common/avro_log_scan.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/avro_log_copy.h"
#include "common/avro_log_end.h"
#include "common/avro_log_window.h"
#include "tests/lib/log_maker.h"

#define SEED    4711
#define SEQ_MAX 4096
#define FIRST   100
#define SMALL   (16 * 1024)

static const struct avro_log_scan_options sealed = {.open = false, .seq_end = UINT64_MAX};
static const struct avro_log_scan_options still_open = {.open = true, .seq_end = UINT64_MAX};

struct reading {
    const struct log_maker *maker;
    struct avro_log_summary summary;
    bool seen[SEQ_MAX];
    uint64_t gap_numbers;
    uint64_t faults;
};

static int see_record(void *context, const struct avro_log_found *found)
{
    struct reading *reading = context;
    uint64_t seq = (uint64_t)found->record.seq;
    /* No ck_assert() where nothing is wrong: each one is a write to Check's pipe, and there are
     * many records. */
    if (seq >= SEQ_MAX || !log_maker_is_genuine(reading->maker, &found->record))
        ck_abort_msg("a wrong record %llu", (unsigned long long)seq);
    if (reading->seen[seq])
        ck_abort_msg("record %llu came twice", (unsigned long long)seq);
    reading->seen[seq] = true;
    return 0;
}

static int see_gap(void *context, uint64_t first, uint64_t end)
{
    ck_assert_uint_lt(first, end);
    ((struct reading *)context)->gap_numbers += end - first;
    return 0;
}

static int see_fault(void *context, uint64_t offset, const char *what)
{
    (void)offset;
    ck_assert_str_ne(what, "");
    ((struct reading *)context)->faults++;
    return 0;
}

static void scan_fd(int fd, const struct log_maker *maker,
                    const struct avro_log_scan_options *options, struct reading *ret)
{
    const struct avro_log_visitor visitor = {ret, see_record, see_gap, see_fault};
    memset(ret, 0, sizeof *ret);
    ret->maker = maker;
    ck_assert_int_eq(avro_log_scan(fd, options, &visitor, &ret->summary), 0);
    ck_assert_uint_eq(ret->faults, ret->summary.faults);
    ck_assert_uint_eq(ret->gap_numbers, ret->summary.missing);
}

static void scan_bytes(const struct log_maker *maker, size_t size,
                       const struct avro_log_scan_options *options, struct reading *ret)
{
    int fd = log_maker_memfd(maker->bytes, size);
    scan_fd(fd, maker, options, ret);
    close(fd);
}

static void expect_range(const struct reading *reading, uint64_t first, uint64_t end)
{
    for (uint64_t seq = first; seq < end; seq++)
        if (!reading->seen[seq])
            ck_abort_msg("record %llu did not come back", (unsigned long long)seq);
}

/* blocks of `per_block` records each; all sealed but, with `leave_open`, the last one */
static void make_file(struct log_maker *maker, int blocks, int per_block, bool leave_open)
{
    log_maker_begin(maker, 256 * 1024, "engine", FIRST, SEED);
    maker->payload_max = 60;
    for (int block = 0; block < blocks; block++) {
        for (int i = 0; i < per_block; i++)
            ck_assert(log_maker_append(maker));
        if (block < blocks - 1 || !leave_open)
            log_maker_seal(maker);
    }
}

/* ---- sound files ---- */

START_TEST(test_sealed_file)
{
    struct log_maker maker;
    struct reading reading;
    make_file(&maker, 5, 20, false);
    scan_bytes(&maker, maker.block_start, &sealed, &reading);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.records, 100);
    ck_assert_uint_eq(reading.summary.blocks, 5);
    ck_assert_uint_eq(reading.summary.first_seq, FIRST);
    ck_assert_uint_eq(reading.summary.last_seq, FIRST + 99);
    ck_assert_uint_eq(reading.summary.missing, 0);
    ck_assert_str_eq(reading.summary.identity.channel, "engine");
    ck_assert(reading.summary.last_block.sealed);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_gaps_and_losses_are_summed_up)
{
    struct log_maker maker;
    struct reading reading;
    struct avro_log_record record;
    uint8_t payload[64];
    uint64_t dropped = 0, cut = 0, quarantined = 0;
    make_file(&maker, 2, 200, false);
    log_maker_skip(&maker, 7);
    for (int i = 0; i < 200; i++)
        ck_assert(log_maker_append(&maker));
    log_maker_seal(&maker);
    for (uint64_t seq = FIRST; seq < maker.next_seq; seq++) {
        if (seq >= FIRST + 400 && seq < FIRST + 407)
            continue;
        log_maker_record(SEED, 60, seq, payload, &record);
        dropped += (uint64_t)record.lost_before;
        cut += (uint64_t)record.cut;
        quarantined += (uint64_t)record.flags;
    }
    scan_bytes(&maker, maker.block_start, &sealed, &reading);
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
    struct reading reading;
    make_file(&maker, 3, 20, true);
    scan_bytes(&maker, maker.size, &still_open, &reading);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.records, 60);
    ck_assert_uint_eq(reading.summary.last_block.offset, maker.block_start);
    ck_assert_uint_eq(reading.summary.last_block.count, 20);
    ck_assert_uint_eq(reading.summary.last_block.size,
                      maker.write_offset - maker.block_start - AVRO_LOG_BLOCK_HEADER_SIZE);
    ck_assert(!reading.summary.last_block.sealed);
    scan_bytes(&maker, maker.size, &sealed, &reading); /* a sealed file must not look like that */
    ck_assert_uint_gt(reading.summary.faults, 0);
    expect_range(&reading, FIRST, maker.next_seq);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_killed_between_sync_marker_and_header)
{
    struct log_maker maker;
    struct reading reading;
    make_file(&maker, 3, 20, true);
    memcpy(maker.bytes + maker.write_offset, maker.identity.sync, AVRO_LOG_SYNC_SIZE);
    scan_bytes(&maker, maker.size, &still_open, &reading);
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
    struct reading reading;
    make_file(&maker, 3, 20, true);
    before = maker;
    log_maker_seal(&maker);
    maker.block_start = before.block_start;
    maker.write_offset = before.write_offset;
    maker.block_records = before.block_records;
    for (int i = 0; i < 5; i++) {
        ck_assert(log_maker_append(&maker));
        scan_bytes(&maker, maker.size, &still_open, &reading);
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
    struct reading reading;
    make_file(&maker, 2, 20, true);
    size_t from = maker.write_offset;
    ck_assert(log_maker_append(&maker));
    for (size_t whole = from; whole < maker.write_offset; whole++) {
        struct log_maker half = maker;
        half.bytes = malloc(maker.size);
        memcpy(half.bytes, maker.bytes, maker.size);
        memset(half.bytes + whole, 0, maker.write_offset - whole);
        if (memcmp(half.bytes, maker.bytes, maker.size) !=
            0) { /* a record may end in a zero byte */
            scan_bytes(&half, half.size, &still_open, &reading);
            ck_assert_uint_eq(reading.summary.faults, 0);
            ck_assert_uint_eq(reading.summary.records, 40);
        }
        free(half.bytes);
    }
    log_maker_free(&maker);
}
END_TEST

/* Behind the committed end of an open block an older record may lie, and even begin in the right
 * place. In a sealed block, every record was meant: there a jump is a fault, but nothing is thrown
 * away. */
START_TEST(test_numbers_that_jump_inside_a_block)
{
    struct log_maker maker;
    struct reading reading;
    make_file(&maker, 2, 20, true);
    maker.next_seq += 3;
    ck_assert(log_maker_append(&maker));
    scan_bytes(&maker, maker.size, &still_open, &reading);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.records, 40);
    log_maker_seal(&maker);
    scan_bytes(&maker, maker.block_start, &sealed, &reading);
    ck_assert_uint_eq(reading.summary.faults, 1);
    ck_assert_uint_eq(reading.summary.records, 41);
    ck_assert_uint_eq(reading.summary.missing, 3);
    maker.next_seq = FIRST + 10; /* numbers that were given before are never passed on */
    ck_assert(log_maker_append(&maker));
    log_maker_seal(&maker);
    scan_bytes(&maker, maker.block_start, &sealed, &reading);
    ck_assert_uint_eq(reading.summary.faults, 2);
    ck_assert_uint_eq(reading.summary.records, 41);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_limits_end_the_scan)
{
    struct log_maker maker;
    struct reading reading;
    make_file(&maker, 4, 20, true);
    const struct avro_log_scan_options by_seq = {.open = true, .seq_end = FIRST + 33};
    scan_bytes(&maker, maker.size, &by_seq, &reading);
    ck_assert_uint_eq(reading.summary.records, 33);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.last_block.count, 13);
    size_t committed = maker.write_offset;
    ck_assert(log_maker_append(&maker));
    const struct avro_log_scan_options by_size = {
        .open = true, .seq_end = UINT64_MAX, .size_end = committed};
    scan_bytes(&maker, maker.size, &by_size, &reading);
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
        make_file(&maker, blocks, 20, false);
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
    log_maker_begin(&maker, 64 * 1024, "engine", 0, SEED);
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
    log_maker_begin(&maker, 9 * 1024 * 1024, "engine", 0, SEED);
    maker.payload_max = 65507;
    while (log_maker_append(&maker))
        if (maker.write_offset - maker.block_start >= AVRO_LOG_BLOCK_SIZE)
            log_maker_seal(&maker);
    log_maker_seal(&maker);
    int fd = log_maker_memfd(maker.bytes, maker.block_start);
    ck_assert_int_eq(avro_log_scan(fd, &sealed, NULL, &summary), 0);
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
    log_maker_begin(&maker, 3 * 1024 * 1024, "engine", 0, SEED);
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
        ck_assert_int_eq(avro_log_scan(writer.fd, &still_open, &visitor, &summary), 0);
        ck_assert_msg(summary.faults == 0 && summary.missing == 0, "%zu: %s, %llu records", end,
                      summary.fault_what, (unsigned long long)summary.records);
        ck_assert_uint_eq(summary.records, maker.next_seq);
        close(writer.fd);
    }
    log_maker_free(&maker);
}
END_TEST

/* ---- damage ---- */

/* Copy what is sound; the copy must be sealed, without fault, and hold the same records. */
static void check_copy(const struct log_maker *maker, int fd,
                       const struct avro_log_scan_options *options, const struct reading *original)
{
    static struct reading again;
    struct avro_log_summary summary;
    struct avro_log_copy copy = {.from_fd = fd, .options = *options, .channel = "engine"};
    copy.to_fd = log_maker_memfd("", 0);
    ck_assert_int_eq(avro_log_copy(&copy, &summary), 0);
    ck_assert_uint_eq(summary.records, original->summary.records);
    if (summary.records > 0) {
        scan_fd(copy.to_fd, maker, &sealed, &again);
        ck_assert_msg(again.summary.faults == 0, "the copy is damaged: %s",
                      again.summary.fault_what);
        ck_assert_mem_eq(again.seen, original->seen, sizeof again.seen);
    }
    close(copy.to_fd);
}

static void check_damaged(struct log_maker *maker, size_t size,
                          const struct avro_log_scan_options *options, struct reading *ret)
{
    int fd = log_maker_memfd(maker->bytes, size);
    scan_fd(fd, maker, options, ret);
    check_copy(maker, fd, options, ret);
    close(fd);
}

#define BLOCKS    4
#define PER_BLOCK 5

/* Where each block begins, and at last where the file ends. */
static void find_blocks(struct log_maker *maker, size_t starts[BLOCKS + 1])
{
    log_maker_begin(maker, SMALL, "engine", FIRST, SEED);
    maker->payload_max = 40;
    for (int block = 0; block < BLOCKS; block++) {
        starts[block] = maker->block_start;
        for (int i = 0; i < PER_BLOCK; i++)
            ck_assert(log_maker_append(maker));
        log_maker_seal(maker);
    }
    starts[BLOCKS] = maker->block_start;
}

START_TEST(test_every_byte_wrong)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xff};
    struct log_maker maker;
    struct reading reading;
    size_t starts[BLOCKS + 1];
    find_blocks(&maker, starts);
    for (size_t at = 0; at < maker.block_start; at++) {
        uint8_t flip = flips[_i];
        maker.bytes[at] ^= flip;
        check_damaged(&maker, maker.block_start, &sealed, &reading);
        ck_assert_msg(at < maker.header_size || reading.summary.faults > 0,
                      "byte %zu is wrong: not noticed", at);
        for (int block = 0; block < BLOCKS; block++) {
            bool hit = at >= starts[block] && at < starts[block + 1];
            uint64_t first = FIRST + (uint64_t)block * PER_BLOCK;
            if (!hit)
                expect_range(&reading, first, first + PER_BLOCK);
        }
        check_damaged(&maker, maker.block_start, &still_open, &reading);
        maker.bytes[at] ^= flip;
    }
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_a_damaged_payload_costs_one_record)
{
    struct log_maker maker;
    struct reading reading;
    make_file(&maker, 3, 50, false);
    uint8_t payload[64];
    struct avro_log_record record;
    log_maker_record(SEED, 60, FIRST + 70, payload, &record);
    for (uint64_t seq = FIRST + 70; record.payload_length < 16; seq++)
        log_maker_record(SEED, 60, seq, payload, &record);
    uint8_t *hit = memmem(maker.bytes, maker.size, payload, record.payload_length);
    ck_assert_ptr_nonnull(hit);
    hit[7] ^= 0x10;
    check_damaged(&maker, maker.block_start, &sealed, &reading);
    ck_assert_uint_eq(reading.summary.records, 149);
    ck_assert_uint_eq(reading.summary.faults, 1);
    ck_assert_ptr_nonnull(strstr(reading.summary.fault_what, "CRC"));
    ck_assert(!reading.seen[record.seq]);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_every_truncation)
{
    struct log_maker maker;
    struct reading reading;
    size_t starts[BLOCKS + 1];
    find_blocks(&maker, starts);
    uint64_t best = 0;
    for (size_t size = 0; size < maker.block_start; size++) {
        bool at_block =
            size == starts[0] || size == starts[1] || size == starts[2] || size == starts[3];
        check_damaged(&maker, size, &sealed, &reading);
        ck_assert_msg((reading.summary.faults == 0) == at_block, "cut at %zu: %llu faults", size,
                      (unsigned long long)reading.summary.faults);
        ck_assert_uint_ge(reading.summary.records, best); /* every whole record comes back */
        best = reading.summary.records;
        expect_range(&reading, FIRST, FIRST + best);
    }
    ck_assert_uint_eq(best, BLOCKS * PER_BLOCK);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_lost_pages)
{
    struct log_maker maker;
    struct reading reading;
    make_file(&maker, 60, 25, false);
    uint8_t *whole = malloc(maker.size);
    memcpy(whole, maker.bytes, maker.size);
    size_t pages = maker.block_start / 4096;
    ck_assert_uint_gt(pages, 10);
    for (size_t page = 0; page < pages; page++) {
        memset(maker.bytes + page * 4096, 0, 4096);
        check_damaged(&maker, maker.block_start, &sealed, &reading);
        ck_assert_uint_gt(reading.summary.faults, 0);
        /* A page touches so few blocks; without the file header, too, the rest comes back. */
        ck_assert_uint_ge(reading.summary.records, 60 * 25 - 6 * 25);
        memcpy(maker.bytes, whole, maker.size);
    }
    free(whole);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_random_damage)
{
    struct log_maker maker;
    struct reading reading;
    make_file(&maker, 20, 20, true);
    uint8_t *whole = malloc(maker.size);
    memcpy(whole, maker.bytes, maker.size);
    uint64_t state = log_maker_seed(SEED);
    for (int round = 0; round < 1500; round++) {
        size_t used = maker.write_offset;
        for (uint64_t hits = 1 + log_maker_random(&state) % 6; hits > 0; hits--) {
            size_t at = log_maker_random(&state) % used,
                   length = 1 + log_maker_random(&state) % 600;
            size_t from = log_maker_random(&state) % used;
            length = length > used - at ? used - at : length;
            length = length > used - from ? used - from : length;
            if (hits % 2) /* bytes of the file itself, at a wrong place */
                memmove(maker.bytes + at, whole + from, length);
            else
                for (size_t i = 0; i < length; i++)
                    maker.bytes[at + i] = (uint8_t)log_maker_random(&state);
        }
        check_damaged(&maker, maker.size, round % 2 ? &still_open : &sealed, &reading);
        memcpy(maker.bytes, whole, maker.size);
    }
    free(whole);
    log_maker_free(&maker);
}
END_TEST

/* A disk or a file system has put copies of later blocks where others were: these are lost, and
 * none else. */
START_TEST(test_blocks_that_lie_in_the_wrong_place)
{
    enum { MANY = 60, EACH = 5 };
    static const struct {
        int at, count, from;
    } copies[] = {{2, 1, 50}, {2, 10, 40}, {0, 1, 59}, {0, 3, 20}, {40, 3, 10}, {57, 2, 58}};
    static size_t ends[MANY + 1];
    struct log_maker maker;
    struct reading reading;
    const int at = copies[_i].at, count = copies[_i].count, from = copies[_i].from;
    uint8_t *bytes = calloc(1, 256 * 1024);
    log_maker_begin(&maker, 256 * 1024, "engine", FIRST, SEED);
    maker.payload_max = 60;
    ends[0] = maker.block_start;
    for (int block = 0; block < MANY; block++) {
        for (int i = 0; i < EACH; i++)
            ck_assert(log_maker_append(&maker));
        log_maker_seal(&maker);
        ends[block + 1] = maker.block_start;
    }
    memcpy(bytes, maker.bytes, ends[0]);
    size_t size = ends[0];
    for (int block = 0; block < MANY; block++) {
        int which = block >= at && block < at + count ? block - at + from : block;
        memcpy(bytes + size, maker.bytes + ends[which], ends[which + 1] - ends[which]);
        size += ends[which + 1] - ends[which];
    }
    int fd = log_maker_memfd(bytes, size);
    scan_fd(fd, &maker, &sealed, &reading);
    ck_assert_uint_gt(reading.summary.faults, 0);
    expect_range(&reading, FIRST, FIRST + (uint64_t)at * EACH);
    expect_range(&reading, FIRST + (uint64_t)(at + count) * EACH, FIRST + MANY * EACH);
    close(fd);
    free(bytes);
    log_maker_free(&maker);
}
END_TEST

/* A piece of a block's copy lies before it: what was taken from the piece is not taken twice, and
 * what wasn't is. */
START_TEST(test_a_block_behind_a_part_of_itself)
{
    struct log_maker maker;
    struct reading reading;
    make_file(&maker, 6, 20, _i == 1);
    const size_t whole = maker.write_offset;
    uint8_t *bytes = calloc(1, 256 * 1024);
    uint8_t zeros[AVRO_LOG_BLOCK_HEADER_SIZE];
    size_t start = maker.header_size, part = 0;
    uint64_t count, size;
    for (int block = 0; block < 3; block++) { /* the fourth block's start */
        ck_assert(avro_log_read_block_header(maker.bytes + start, sizeof zeros, &count, &size));
        start += AVRO_LOG_BLOCK_HEADER_SIZE + size + AVRO_LOG_SYNC_SIZE;
    }
    for (int record = 0; record < 8; record++) {
        struct avro_log_record ignored;
        const char *what;
        const uint8_t *at = maker.bytes + start + AVRO_LOG_BLOCK_HEADER_SIZE + part;
        part += (size_t)avro_log_read_record(at, 1000, &ignored, &what);
    }
    part += AVRO_LOG_BLOCK_HEADER_SIZE + 5; /* and a bit of the ninth */
    avro_log_write_block_header(zeros, 0, 0);
    memcpy(bytes, maker.bytes, start + part);
    memcpy(bytes + start + part, maker.bytes + start - AVRO_LOG_SYNC_SIZE, AVRO_LOG_SYNC_SIZE);
    size_t at = start + part + AVRO_LOG_SYNC_SIZE;
    memcpy(bytes + at, maker.bytes + start, whole - start);
    int fd = log_maker_memfd(bytes, at + whole - start);
    scan_fd(fd, &maker, _i == 1 ? &still_open : &sealed, &reading);
    ck_assert_uint_gt(reading.summary.faults, 0);
    ck_assert_uint_gt(reading.summary.records_after_fault, 0);
    expect_range(&reading, FIRST, FIRST + 120);
    check_copy(&maker, fd, _i == 1 ? &still_open : &sealed, &reading);
    close(fd);
    free(bytes);
    log_maker_free(&maker);
}
END_TEST

/* Where datagrams were not recorded, numbers jump, again and again. */
START_TEST(test_numbers_that_jump_are_in_order)
{
    struct log_maker maker;
    struct reading reading;
    log_maker_begin(&maker, 256 * 1024, "engine", FIRST, SEED);
    maker.payload_max = 60;
    for (int block = 0; block < 100; block++) {
        ck_assert(log_maker_append(&maker));
        log_maker_seal(&maker);
        maker.next_seq += 1 + (uint64_t)block % 7;
    }
    scan_bytes(&maker, maker.block_start, &sealed, &reading);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.records, 100);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_foreign_bytes_hold_no_record)
{
    static uint8_t bytes[64 * 1024];
    struct log_maker maker = {.seed = SEED};
    struct reading reading;
    uint64_t state = log_maker_seed(SEED);
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = round == 0 ? 0 : round == 1 ? 0x80 : (uint8_t)log_maker_random(&state);
        int fd = log_maker_memfd(bytes, sizeof bytes - (size_t)round);
        scan_fd(fd, &maker, round % 2 ? &still_open : &sealed, &reading);
        ck_assert_uint_eq(reading.summary.records, 0);
        ck_assert_uint_gt(reading.summary.faults, 0);
        close(fd);
    }
}
END_TEST

START_TEST(test_what_is_no_file_is_refused)
{
    struct avro_log_summary summary;
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(avro_log_scan(ends[0], &sealed, NULL, &summary), -EINVAL);
    ck_assert_int_eq(avro_log_scan(-1, &sealed, NULL, &summary), -EBADF);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("avro_log_scan");
    TCase *sound = tcase_create("sound files"), *damage = tcase_create("damage");
    tcase_set_timeout(sound, 120);
    tcase_set_timeout(damage, 240);
    tcase_add_test(sound, test_sealed_file);
    tcase_add_test(sound, test_gaps_and_losses_are_summed_up);
    tcase_add_test(sound, test_open_file_ends_in_an_open_block_and_zeros);
    tcase_add_test(sound, test_killed_between_sync_marker_and_header);
    tcase_add_test(sound, test_successor_overwrites_an_uncommitted_seal);
    tcase_add_test(sound, test_half_a_record_at_the_end);
    tcase_add_test(sound, test_numbers_that_jump_inside_a_block);
    tcase_add_test(sound, test_limits_end_the_scan);
    tcase_add_test(sound, test_the_end_without_reading_all);
    tcase_add_test(sound, test_the_extent_of_a_file_with_holes);
    tcase_add_test(sound, test_a_file_larger_than_the_window);
    tcase_add_test(sound, test_a_file_that_is_written_meanwhile);
    tcase_add_loop_test(damage, test_every_byte_wrong, 0, 3);
    tcase_add_test(damage, test_a_damaged_payload_costs_one_record);
    tcase_add_test(damage, test_every_truncation);
    tcase_add_test(damage, test_lost_pages);
    tcase_add_test(damage, test_random_damage);
    tcase_add_loop_test(damage, test_blocks_that_lie_in_the_wrong_place, 0, 6);
    tcase_add_loop_test(damage, test_a_block_behind_a_part_of_itself, 0, 2);
    tcase_add_test(sound, test_numbers_that_jump_are_in_order);
    tcase_add_test(damage, test_foreign_bytes_hold_no_record);
    tcase_add_test(damage, test_what_is_no_file_is_refused);
    suite_add_tcase(suite, sound);
    suite_add_tcase(suite, damage);
    return log_maker_run(suite);
}
