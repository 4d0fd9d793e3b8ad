/* SPDX-License-Identifier: MIT */
/* What a scan costs, counted in bytes and not in seconds: a file that was made to be expensive is
 * read about once, whatever stands in it, and what was never written is not walked through. */
#include "common/avro_log_window.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_scan.h"
#include "tests/lib/log_maker.h"

#define HOSTILE (8 * 1024 * 1024)
#define WASTE   (8u * HOSTILE + 17u * 1024 * 1024)

static const struct avro_log_scan_options sealed = {.seq_end = UINT64_MAX};
static const struct avro_log_identity identity = {.channel = "engine", .sync = "the file's own.."};

/* A head of a record that claims the longest payload. */
static size_t put_claim(uint8_t *to)
{
    const struct avro_log_record record = {
        .source = "", .source_length = 0, .payload_length = CHANNEL_DATAGRAM_MAX};
    return (size_t)(avro_log_write_record_head(to, &record) - to);
}

/* 0: block headers that promise the whole file. 1: damaged headers, each with a claim of 64 KiB
 * behind it. 2: the like without a file header, so that the marker must be guessed. 3: headers and
 * nothing else. */
static void fill(uint8_t *bytes, int kind)
{
    size_t at = avro_log_write_header(bytes, &identity);
    if (kind == 2)
        at = (size_t)(stpcpy((char *)bytes, "no header") - (char *)bytes);
    while (at + 64 < HOSTILE) {
        if (kind == 0 || kind == 3) {
            avro_log_write_block_header(bytes + at, 1, kind ? 0 : HOSTILE / 2);
            at += AVRO_LOG_BLOCK_HEADER_SIZE;
        } else {
            avro_log_write_block_header(bytes + at, 0, 0);
            bytes[at] = kind == 1 ? 0xff : 0x80;
            bytes[at + 4] = kind == 1 ? 0xff : 0;
            at += AVRO_LOG_BLOCK_HEADER_SIZE;
            at += put_claim(bytes + at);
        }
        if (kind < 2) {
            memcpy(bytes + at, identity.sync, AVRO_LOG_SYNC_SIZE);
            at += AVRO_LOG_SYNC_SIZE;
        }
    }
}

START_TEST(test_a_hostile_file_is_read_about_once)
{
    uint8_t *bytes = calloc(1, HOSTILE);
    struct avro_log_summary summary;
    fill(bytes, _i);
    int fd = log_maker_memfd(bytes, HOSTILE);
    ck_assert_int_eq(avro_log_scan(fd, &sealed, NULL, &summary), 0);
    ck_assert_uint_gt(summary.faults, 0);
    ck_assert_uint_eq(summary.records, 0);
    ck_assert_msg(summary.bytes_read <= 2u * HOSTILE, "%llu bytes were read",
                  (unsigned long long)summary.bytes_read);
    ck_assert_msg(summary.bytes_wasted <= WASTE, "%llu bytes looked like records",
                  (unsigned long long)summary.bytes_wasted);
    close(fd);
    free(bytes);
}
END_TEST

/* 1 GiB of nothing between two pages: the block that promises it is none. */
START_TEST(test_a_hole_is_not_walked_through)
{
    const uint64_t size = 1ull << 30;
    uint8_t head[AVRO_LOG_HEADER_MAX];
    struct avro_log_summary summary;
    size_t length = avro_log_write_header(head, &identity);
    avro_log_write_block_header(head + length, 1, size - length - 26);
    int fd = memfd_create("log", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    ck_assert_int_gt(pwrite(fd, head, length + AVRO_LOG_BLOCK_HEADER_SIZE, 0), 0);
    ck_assert_int_eq(pwrite(fd, identity.sync, AVRO_LOG_SYNC_SIZE, (off_t)size - 16), 16);
    ck_assert_int_eq(avro_log_scan(fd, &sealed, NULL, &summary), 0);
    ck_assert_uint_gt(summary.faults, 0);
    ck_assert_msg(summary.faults < 10, "%llu faults", (unsigned long long)summary.faults);
    ck_assert_msg(summary.bytes_read <= 4 * AVRO_LOG_WINDOW_MAX, "%llu bytes were read",
                  (unsigned long long)summary.bytes_read);
    close(fd);
}
END_TEST

/* Whatever the steps: the right bytes, each read once. */
START_TEST(test_a_walk_forward_reads_each_byte_once)
{
    const size_t size = 3 * AVRO_LOG_WINDOW_MAX + 12345;
    uint8_t *bytes = malloc(size);
    uint64_t state = log_maker_seed(1);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)log_maker_random(&state);
    struct avro_log_window window = {.fd = log_maker_memfd(bytes, size), .file_size = size};
    ck_assert(avro_log_window_open(&window));
    for (size_t at = 0; at < size; at += log_maker_random(&state) % 50000) {
        size_t got, want = log_maker_random(&state) % 140000;
        const uint8_t *view = avro_log_window_view(&window, at, want, &got);
        ck_assert_uint_ge(got, want < size - at ? want : size - at);
        ck_assert_uint_le(got, size - at);
        if (memcmp(view, bytes + at, got) != 0)
            ck_abort_msg("wrong bytes at %zu", at);
    }
    ck_assert_uint_le(window.bytes_read, size);
    ck_assert_uint_eq(avro_log_window_find(&window, 0, bytes + size - 16, 16), size);
    ck_assert_uint_eq(avro_log_window_find(&window, 0, bytes + 2000000, 16), 2000016);
    close(window.fd);
    avro_log_window_close(&window);
    free(bytes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("avro_log_window");
    TCase *everything = tcase_create("everything");
    tcase_set_timeout(everything, 120);
    tcase_add_loop_test(everything, test_a_hostile_file_is_read_about_once, 0, 4);
    tcase_add_test(everything, test_a_hole_is_not_walked_through);
    tcase_add_test(everything, test_a_walk_forward_reads_each_byte_once);
    suite_add_tcase(suite, everything);
    return log_maker_run(suite);
}
