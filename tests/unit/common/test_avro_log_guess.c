/* SPDX-License-Identifier: MIT */
/* A sender wants to forge records: its payloads hold sync markers, block headers and records of its
 * own making, chained, as often as fits, and then the page with the file's header is lost. None of
 * its records may come back, and all of those that were received in whole blocks must. */
#include "common/avro_log_guess.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_scan.h"
#include "tests/lib/log_maker.h"

#define FILE_ROOM  (8 * 1024 * 1024)
#define FORGED_SEQ 5000000
#define PAGE       4096

struct forgery {
    uint8_t *bytes;
    size_t size;         /* written so far */
    size_t second_block; /* where it begins */
    uint64_t blocks;
    uint8_t payload[CHANNEL_DATAGRAM_MAX];
    size_t payload_size;
};

static size_t put_record(uint8_t *to, uint64_t seq, const void *payload, size_t size)
{
    const struct avro_log_record record = {.seq = (int64_t)seq,
                                           .received_at_us =
                                               1760000000000000 + (int64_t)(seq % 1000000),
                                           .source = "10.0.0.7:1",
                                           .source_length = 10,
                                           .payload = payload,
                                           .payload_length = size};
    uint8_t *at = avro_log_write_record_head(to, &record);
    memcpy(at, payload, size);
    return (size_t)(avro_log_write_record_crc(to, at + size) - to);
}

/* marker, block of one record, marker, block of one record, ... */
static void make_payload(struct forgery *forgery, size_t size)
{
    uint8_t *at = forgery->payload;
    memcpy(at, "forgedforgedforg", AVRO_LOG_SYNC_SIZE);
    at += AVRO_LOG_SYNC_SIZE;
    for (uint64_t n = 0; (size_t)(at - forgery->payload) + 100 < size; n++) {
        size_t length = put_record(at + AVRO_LOG_BLOCK_HEADER_SIZE, FORGED_SEQ + n, "forged", 6);
        avro_log_write_block_header(at, 1, length);
        at += AVRO_LOG_BLOCK_HEADER_SIZE + length;
        memcpy(at, "forgedforgedforg", AVRO_LOG_SYNC_SIZE);
        at += AVRO_LOG_SYNC_SIZE;
    }
    forgery->payload_size = (size_t)(at - forgery->payload);
}

/* A log of such datagrams, blocks as the recorder makes them, the last one left open or sealed. */
static void make_log(struct forgery *forgery, uint64_t blocks, bool open)
{
    struct avro_log_identity identity = {.channel = "engine", .sync = "the file's own.."};
    forgery->bytes = calloc(1, FILE_ROOM);
    size_t at = avro_log_write_header(forgery->bytes, &identity);
    uint64_t seq = 0;
    for (uint64_t block = 0; block < blocks; block++) {
        size_t start = at, count = 0;
        if (block == 1)
            forgery->second_block = start;
        for (at += AVRO_LOG_BLOCK_HEADER_SIZE; at - start < AVRO_LOG_BLOCK_SIZE; count++)
            at += put_record(forgery->bytes + at, seq++, forgery->payload, forgery->payload_size);
        bool last = block + 1 == blocks;
        if (last && open) {
            avro_log_write_block_header(forgery->bytes + start, 0, 0);
            break;
        }
        avro_log_write_block_header(forgery->bytes + start, count,
                                    at - start - AVRO_LOG_BLOCK_HEADER_SIZE);
        memcpy(forgery->bytes + at, identity.sync, AVRO_LOG_SYNC_SIZE);
        at += AVRO_LOG_SYNC_SIZE;
    }
    forgery->size = open ? FILE_ROOM : at;
}

struct outcome {
    uint64_t genuine, forged;
};

static int see_record(void *context, const struct avro_log_found *found)
{
    struct outcome *outcome = context;
    if (found->record.seq >= FORGED_SEQ)
        outcome->forged++;
    else
        outcome->genuine++;
    return 0;
}

static const size_t sizes[] = {200, 1400, 9000, 65000};

/* _i: which size, and whether the last block is open */
START_TEST(test_a_payload_is_never_taken_for_the_log)
{
    static struct forgery forgery;
    bool open = _i % 2;
    make_payload(&forgery, sizes[_i / 2]);
    for (uint64_t blocks = 2; blocks <= 40; blocks += blocks < 4 ? 1 : 18) {
        struct outcome whole = {0}, torn = {0};
        struct avro_log_summary summary;
        const struct avro_log_visitor see_whole = {&whole, see_record, NULL, NULL};
        const struct avro_log_visitor see_torn = {&torn, see_record, NULL, NULL};
        const struct avro_log_scan_options options = {.open = open, .seq_end = UINT64_MAX};
        make_log(&forgery, blocks, open);
        int fd = log_maker_memfd(forgery.bytes, forgery.size);
        ck_assert_int_eq(avro_log_scan(fd, &options, &see_whole, &summary), 0);
        ck_assert_uint_eq(whole.forged, 0);
        ck_assert_uint_ge(whole.genuine, blocks);

        static const uint8_t zeros[PAGE];
        ck_assert_int_eq(pwrite(fd, zeros, PAGE, 0), PAGE);
        ck_assert_int_eq(avro_log_scan(fd, &options, &see_torn, &summary), 0);
        ck_assert_msg(torn.forged == 0, "%zu bytes, %llu blocks: %llu forged records",
                      forgery.payload_size, (unsigned long long)blocks,
                      (unsigned long long)torn.forged);
        uint64_t per_block = whole.genuine / blocks;
        ck_assert_msg(torn.genuine >= whole.genuine - per_block - 1,
                      "%zu bytes, %llu blocks: %llu of %llu records came back",
                      forgery.payload_size, (unsigned long long)blocks,
                      (unsigned long long)torn.genuine, (unsigned long long)whole.genuine);
        ck_assert_mem_eq(summary.identity.sync, "the file's own..", AVRO_LOG_SYNC_SIZE);
        close(fd);
        free(forgery.bytes);
    }
}
END_TEST

/* The only block's header is lost with the file's: there is nothing to go by, and nothing comes
 * back. */
START_TEST(test_a_single_block)
{
    static struct forgery forgery;
    static const uint8_t zeros[PAGE];
    make_payload(&forgery, 1400);
    for (int open = 0; open < 2; open++) {
        struct outcome torn = {0};
        struct avro_log_summary summary;
        const struct avro_log_visitor visitor = {&torn, see_record, NULL, NULL};
        const struct avro_log_scan_options options = {.open = open, .seq_end = UINT64_MAX};
        make_log(&forgery, 1, open);
        int fd = log_maker_memfd(forgery.bytes, forgery.size);
        /* what was torn ends with the first record */
        ck_assert_int_eq(pwrite(fd, zeros, 2000, 0), 2000);
        ck_assert_int_eq(avro_log_scan(fd, &options, &visitor, &summary), 0);
        ck_assert_uint_eq(torn.forged, 0);
        close(fd);
        free(forgery.bytes);
    }
}
END_TEST

/* From such a number on there is no room for a log. */
START_TEST(test_numbers_that_no_log_reaches)
{
    uint8_t bytes[200];
    struct avro_log_record record;
    const char *what;
    size_t size = put_record(bytes, AVRO_LOG_SEQ_MAX, "x", 1);
    ck_assert_int_eq(avro_log_read_record(bytes, size, &record, &what), (long)size);
    size = put_record(bytes, (uint64_t)AVRO_LOG_SEQ_MAX + 1, "x", 1);
    ck_assert_int_lt(avro_log_read_record(bytes, size, &record, &what), 0);
    size = put_record(bytes, INT64_MAX, "x", 1);
    ck_assert_int_lt(avro_log_read_record(bytes, size, &record, &what), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("avro_log_guess");
    TCase *everything = tcase_create("everything");
    tcase_set_timeout(everything, 120);
    tcase_add_loop_test(everything, test_a_payload_is_never_taken_for_the_log, 0, 8);
    tcase_add_test(everything, test_a_single_block);
    tcase_add_test(everything, test_numbers_that_no_log_reaches);
    suite_add_tcase(suite, everything);
    return log_maker_run(suite);
}
