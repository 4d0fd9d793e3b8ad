/* SPDX-License-Identifier: MIT */
/* Sequence numbers that jump in a log file: between blocks, because datagrams were not recorded, or
 * because a disk or a file system has put copies of records where others were. Then these others
 * are lost, and none else; whatever lies where, no record comes back twice. */
#include "common/avro_log_scan.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/log_maker.h"
#include "tests/lib/log_reading.h"

/* Where datagrams were not recorded, numbers jump, again and again. */
START_TEST(test_numbers_that_jump_are_in_order)
{
    struct log_maker maker;
    struct log_reading reading;
    log_maker_begin(&maker, 256 * 1024, "engine", LOG_READING_FIRST, LOG_READING_SEED);
    maker.payload_max = 60;
    for (int block = 0; block < 100; block++) {
        ck_assert(log_maker_append(&maker));
        log_maker_seal(&maker);
        maker.next_seq += 1 + (uint64_t)block % 7;
    }
    log_reading_scan_bytes(&maker, maker.block_start, &log_reading_sealed, &reading);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.records, 100);
    log_maker_free(&maker);
}
END_TEST

/* Behind the committed end of an open block an older record may lie, and even begin in the right
 * place. In a sealed block, every record was meant: there a jump is a fault, but nothing is thrown
 * away. */
START_TEST(test_numbers_that_jump_inside_a_block)
{
    struct log_maker maker;
    struct log_reading reading;
    log_reading_make(&maker, 2, 20, true);
    maker.next_seq += 3;
    ck_assert(log_maker_append(&maker));
    log_reading_scan_bytes(&maker, maker.size, &log_reading_open, &reading);
    ck_assert_uint_eq(reading.summary.faults, 0);
    ck_assert_uint_eq(reading.summary.records, 40);
    log_maker_seal(&maker);
    log_reading_scan_bytes(&maker, maker.block_start, &log_reading_sealed, &reading);
    ck_assert_uint_eq(reading.summary.faults, 1);
    ck_assert_uint_eq(reading.summary.records, 41);
    ck_assert_uint_eq(reading.summary.missing, 3);
    maker.next_seq =
        LOG_READING_FIRST + 10; /* numbers that were given before are never passed on */
    ck_assert(log_maker_append(&maker));
    log_maker_seal(&maker);
    log_reading_scan_bytes(&maker, maker.block_start, &log_reading_sealed, &reading);
    ck_assert_uint_eq(reading.summary.faults, 2);
    ck_assert_uint_eq(reading.summary.records, 41);
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
    struct log_reading reading;
    const int at = copies[_i].at, count = copies[_i].count, from = copies[_i].from;
    uint8_t *bytes = calloc(1, 256 * 1024);
    log_maker_begin(&maker, 256 * 1024, "engine", LOG_READING_FIRST, LOG_READING_SEED);
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
    log_reading_scan(fd, &maker, &log_reading_sealed, &reading);
    ck_assert_uint_gt(reading.summary.faults, 0);
    log_reading_expect(&reading, LOG_READING_FIRST, LOG_READING_FIRST + (uint64_t)at * EACH);
    log_reading_expect(&reading, LOG_READING_FIRST + (uint64_t)(at + count) * EACH,
                       LOG_READING_FIRST + MANY * EACH);
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
    struct log_reading reading;
    log_reading_make(&maker, 6, 20, _i == 1);
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
    log_reading_scan(fd, &maker, _i == 1 ? &log_reading_open : &log_reading_sealed, &reading);
    ck_assert_uint_gt(reading.summary.faults, 0);
    ck_assert_uint_gt(reading.summary.records_after_fault, 0);
    log_reading_expect(&reading, LOG_READING_FIRST, LOG_READING_FIRST + 120);
    log_reading_check_copy(&maker, fd, _i == 1 ? &log_reading_open : &log_reading_sealed, &reading);
    close(fd);
    free(bytes);
    log_maker_free(&maker);
}
END_TEST

/* A file that is put together record by record, of log_reading_make()'s one. */
struct patchwork {
    struct log_maker maker;
    size_t at[LOG_READING_MAX], end[LOG_READING_MAX]; /* each record's place in the maker's bytes */
    uint8_t *bytes;
    size_t size, block;
    uint64_t count;
};

static void patchwork_begin(struct patchwork *work, int records, int payload)
{
    memset(work, 0, sizeof *work);
    log_maker_begin(&work->maker, 256 * 1024, "engine", 0, LOG_READING_SEED);
    work->maker.payload_max = (size_t)payload;
    for (int i = 0; i < records; i++) {
        work->at[i] = work->maker.write_offset;
        ck_assert(log_maker_append(&work->maker));
        work->end[i] = work->maker.write_offset;
    }
    work->bytes = calloc(1, 256 * 1024);
    memcpy(work->bytes, work->maker.bytes, work->maker.header_size);
    work->size = work->maker.header_size;
}

/* Into the block that is open, which is begun where there is none. */
static void patchwork_put(struct patchwork *work, int first, int end)
{
    if (!work->block) {
        work->block = work->size;
        work->size += AVRO_LOG_BLOCK_HEADER_SIZE;
    }
    memcpy(work->bytes + work->size, work->maker.bytes + work->at[first],
           work->end[end - 1] - work->at[first]);
    work->size += work->end[end - 1] - work->at[first];
    work->count += (uint64_t)(end - first);
}

static void patchwork_seal(struct patchwork *work)
{
    avro_log_write_block_header(work->bytes + work->block, work->count,
                                work->size - work->block - AVRO_LOG_BLOCK_HEADER_SIZE);
    memcpy(work->bytes + work->size, work->maker.identity.sync, AVRO_LOG_SYNC_SIZE);
    work->size += AVRO_LOG_SYNC_SIZE;
    work->block = work->count = 0;
}

/* Blocks of ten, [first, end) of them. */
static void patchwork_blocks(struct patchwork *work, int first, int end)
{
    for (; first < end; first++) {
        patchwork_put(work, 10 * first, 10 * first + 10);
        patchwork_seal(work);
    }
}

static void patchwork_read(struct patchwork *work, struct log_reading *ret)
{
    static const struct avro_log_scan_options *const ways[] = {&log_reading_sealed,
                                                               &log_reading_open};
    int fd = log_maker_memfd(work->bytes, work->size);
    for (int i = 0; i < 2; i++) {
        log_reading_scan(fd, &work->maker, ways[i], ret);
        ck_assert_uint_gt(ret->summary.faults, 0);
        log_reading_check_copy(&work->maker, fd, ways[i], ret);
    }
    close(fd);
    free(work->bytes);
    log_maker_free(&work->maker);
}

/* No recorder writes a jump into a block: records were put there from elsewhere. Only those that
 * they lie over are lost. */
START_TEST(test_records_that_lie_in_another_block)
{
    static const struct {
        int at, count, from; /* records of the fourth block, 30..39 */
    } copies[] = {{33, 3, 123}, {30, 3, 120}, {37, 3, 127}, {30, 9, 131}, {33, 3, 13}, {30, 3, 10}};
    static struct patchwork work;
    struct log_reading reading;
    const int at = copies[_i].at, end = at + copies[_i].count, from = copies[_i].from;
    patchwork_begin(&work, 200, 60);
    patchwork_blocks(&work, 0, 3);
    if (at > 30)
        patchwork_put(&work, 30, at);
    patchwork_put(&work, from, from + copies[_i].count);
    if (end < 40)
        patchwork_put(&work, end, 40);
    patchwork_seal(&work);
    patchwork_blocks(&work, 4, 20);
    patchwork_read(&work, &reading);
    log_reading_expect(&reading, 0, (uint64_t)at);
    log_reading_expect(&reading, (uint64_t)end, 200);
    ck_assert_uint_eq(reading.summary.records, (uint64_t)(200 - copies[_i].count));
}
END_TEST

/* Where the block that they are copies of is lost, and nothing lower follows, they are kept. */
START_TEST(test_a_jump_inside_a_block_that_nothing_speaks_against)
{
    static struct patchwork work;
    struct log_reading reading;
    patchwork_begin(&work, 60, 60);
    patchwork_blocks(&work, 0, 3);
    patchwork_put(&work, 30, 33);
    patchwork_put(&work, 45, 50);
    patchwork_seal(&work);
    patchwork_blocks(&work, 5, 6);
    patchwork_read(&work, &reading);
    log_reading_expect(&reading, 0, 33);
    log_reading_expect(&reading, 45, 60);
}
END_TEST

/* The first record is damaged, and the file's first blocks lie once more at its end, where that one
 * is sound, and the last of them is cut off: nothing but that record is in the copy alone, and what
 * is behind the originals is in these alone. */
START_TEST(test_originals_and_copies_with_two_damages)
{
    static struct patchwork work;
    struct log_reading reading;
    patchwork_begin(&work, 100, 60);
    patchwork_put(&work, 0, 1);
    patchwork_seal(&work);
    size_t damaged = work.size - AVRO_LOG_SYNC_SIZE - 1;
    patchwork_put(&work, 1, 10);
    patchwork_seal(&work);
    patchwork_blocks(&work, 1, 10);
    patchwork_put(&work, 0, 1);
    patchwork_seal(&work);
    patchwork_put(&work, 1, 10);
    patchwork_seal(&work);
    patchwork_blocks(&work, 1, _i == 0 ? 4 : 7);
    patchwork_put(&work, 40, 45);
    work.bytes[damaged] ^= 1;
    patchwork_read(&work, &reading);
    log_reading_expect(&reading, 1, 100);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("avro_log_order");
    TCase *tests = tcase_create("order");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_numbers_that_jump_are_in_order);
    tcase_add_test(tests, test_numbers_that_jump_inside_a_block);
    tcase_add_loop_test(tests, test_blocks_that_lie_in_the_wrong_place, 0, 6);
    tcase_add_loop_test(tests, test_a_block_behind_a_part_of_itself, 0, 2);
    tcase_add_loop_test(tests, test_records_that_lie_in_another_block, 0, 6);
    tcase_add_test(tests, test_a_jump_inside_a_block_that_nothing_speaks_against);
    tcase_add_loop_test(tests, test_originals_and_copies_with_two_damages, 0, 2);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
