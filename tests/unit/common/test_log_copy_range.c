/* SPDX-License-Identifier: MIT */
/* Records by their numbers, from files without a daemon: a log file of exactly those that are sound
 * and wanted, and the pieces of the files that have them. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/unit.h"

#define SEED  7
#define BEGIN (1760000000ull * NS_PER_S)

static char folder[64];
static hf *handle;

/* Records [first, end) in blocks of 25; `damaged` (0: none) is not sound, `left_out` (0: none) is
 * not there. */
struct part {
    uint64_t first, end;
    uint64_t damaged, left_out;
    bool open;
};

static void put(const struct part *part)
{
    struct log_maker maker;
    char name[SEGMENT_NAME_SIZE];
    log_maker_begin(&maker, 256 * 1024, "engine", part->first, SEED);
    maker.payload_max = 60;
    for (uint64_t seq = part->first; seq < part->end; seq++) {
        const size_t at = maker.write_offset;
        if (part->left_out && seq == part->left_out) {
            log_maker_seal(&maker);
            log_maker_skip(&maker, 1);
            continue;
        }
        ck_assert(log_maker_append(&maker));
        if (part->damaged && seq == part->damaged)
            maker.bytes[at + 8] ^= 0x21;
        if (seq % 25 == 24)
            log_maker_seal(&maker);
    }
    if (!part->open)
        log_maker_seal(&maker);
    avro_log_segment_name("engine", part->first, BEGIN + part->first * NS_PER_S, name);
    if (!part->open)
        *strstr(name, ".open") = '\0';
    log_maker_write(folder, name, maker.bytes, part->open ? maker.size : maker.block_start);
    log_maker_free(&maker);
}

static void set_up(void)
{
    log_maker_folder(folder);
    put(&(struct part){.first = 100, .end = 200, .damaged = 133});
    put(&(struct part){.first = 200, .end = 300, .left_out = 260});
    put(&(struct part){.first = 310, .end = 400}); /* 300 to 309 are lost */
    put(&(struct part){.first = 400, .end = 490, .open = true});
    const char *const paths[] = {folder};
    ck_assert_int_eq(hf_open_files(&handle, paths, 1), 0);
}

static void tear_down(void)
{
    hf_close(handle);
    log_maker_remove_folder(folder);
}

/* ---- as one file ---- */

static bool is_there(uint64_t seq)
{
    return seq >= 100 && seq < 490 && seq != 133 && seq != 260 && (seq < 300 || seq >= 310);
}

struct expected {
    uint64_t next, last;
    uint64_t first_seen, count;
};

static int see(void *context, const struct avro_log_found *found)
{
    const struct log_maker maker = {.seed = SEED, .payload_max = 60};
    struct expected *it = context;
    while (it->next <= it->last && !is_there(it->next))
        it->next++;
    ck_assert_uint_eq((uint64_t)found->record.seq, it->next);
    ck_assert(log_maker_is_genuine(&maker, &found->record));
    if (it->count++ == 0)
        it->first_seen = it->next;
    it->next++;
    return 0;
}

/* It is whole, and has what is wanted and no more. */
static void expect_file(int fd, uint64_t first, uint64_t last)
{
    struct expected it = {.next = first, .last = last};
    const struct avro_log_visitor visitor = {.context = &it, .record = see};
    const struct avro_log_scan_options options = {.seq_end = UINT64_MAX};
    struct avro_log_summary summary;
    struct hf_log_range told;
    ck_assert_int_eq(avro_log_scan(fd, &options, &visitor, &summary), 0);
    ck_assert_uint_eq(summary.faults, 0);
    ck_assert(summary.has_header);
    ck_assert_uint_eq(summary.identity.first_seq, it.first_seen);
    for (uint64_t seq = it.next; seq <= last; seq++)
        ck_assert_msg(!is_there(seq), "%lu is missing", (unsigned long)seq);
    ck_assert_int_eq(hf_log_copied(handle, &told), 0);
    ck_assert_uint_eq(told.first_seq, it.first_seen);
    ck_assert_uint_eq(told.last_seq, it.next - 1);
    ck_assert_uint_eq(told.records, it.count);
}

static int64_t copy(uint64_t first, uint64_t last, int *ret_fd)
{
    char name[64];
    snprintf(name, sizeof name, "seq:%lu..%lu", (unsigned long)first, (unsigned long)last);
    *ret_fd = memfd_create("range", MFD_CLOEXEC);
    ck_assert_int_ge(*ret_fd, 0);
    return hf_log_copy(handle, "engine", name, *ret_fd, 0, 0, HF_BY_FD);
}

START_TEST(exactly_what_is_wanted)
{
    for (uint64_t first = 90; first < 490; first += 7)
        for (uint64_t last = first; last < 520; last += 23) {
            int fd;
            int64_t bytes = copy(first, last, &fd);
            bool any = false;
            for (uint64_t seq = first; seq <= last; seq++)
                any |= is_there(seq);
            if (any) {
                ck_assert_int_eq(bytes, lseek(fd, 0, SEEK_END));
                expect_file(fd, first, last);
            } else {
                ck_assert_int_eq(bytes, -ENOENT);
                ck_assert_int_eq(lseek(fd, 0, SEEK_END), 0);
            }
            fd_close(&fd);
        }
}
END_TEST

START_TEST(what_is_refused)
{
    static const char *const names[] = {"seq:5..4", "seq:..4", "seq:4..",     "seq:4...5",
                                        "seq:x..5", "seq:..",  "seq:100..-5", "seq:100..200..300"};
    struct hf_log_piece *pieces;
    struct hf_log_range told;
    struct hf_log log;
    size_t count;
    int fd;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_assert_int_eq(hf_log_copy(handle, NULL, names[i], 1, 0, 0, HF_BY_FD), -EINVAL);
        ck_assert_int_eq(hf_log_open(handle, NULL, names[i], &log), -EINVAL);
        ck_assert_int_eq(hf_log_pieces(handle, NULL, names[i], &pieces, &count), -EINVAL);
    }
    ck_assert_int_eq(hf_log_pieces(handle, NULL, "first", &pieces, &count), -EINVAL);
    ck_assert_int_eq(hf_log_copy(handle, NULL, "seq:100..110", 1, 5, 0, HF_BY_FD), -EINVAL);
    ck_assert_int_eq(hf_log_copied(handle, &told), -ENODATA);
    ck_assert_int_gt(copy(100, 110, &fd), 0);
    fd_close(&fd);
    ck_assert_int_eq(hf_log_copied(handle, &told), 0);
    ck_assert_int_eq(copy(300, 309, &fd), -ENOENT);
    fd_close(&fd);
    ck_assert_int_eq(hf_log_copied(handle, &told), -ENODATA);
    ck_assert_int_eq(hf_log_open(handle, NULL, "seq:150..250", &log), -E2BIG);
    ck_assert_int_eq(log.fd, -1);
    ck_assert_int_eq(hf_log_open(handle, NULL, "seq:150..151", &log), 0);
    ck_assert_uint_eq(log.first_seq, 100);
    fd_close(&log.fd);
}
END_TEST

/* ---- pieces ---- */

struct seen {
    uint64_t first, last, count;
};

static int note(void *context, const struct avro_log_found *found)
{
    struct seen *it = context;
    if (it->count++ == 0)
        it->first = (uint64_t)found->record.seq;
    it->last = (uint64_t)found->record.seq;
    return 0;
}

/* Header and piece together are a log file. */
static struct seen read_piece(const struct hf_log_piece *piece)
{
    struct seen it = {0};
    const struct avro_log_visitor visitor = {.context = &it, .record = note};
    const struct avro_log_scan_options options = {.seq_end = UINT64_MAX};
    struct avro_log_summary summary;
    uint8_t *bytes = malloc(piece->header_length + piece->length);
    ck_assert_int_eq(pread(piece->log.fd, bytes, piece->header_length, 0),
                     (ssize_t)piece->header_length);
    ck_assert_int_eq(
        pread(piece->log.fd, bytes + piece->header_length, piece->length, (off_t)piece->offset),
        (ssize_t)piece->length);
    int fd = log_maker_memfd(bytes, piece->header_length + piece->length);
    ck_assert_int_eq(avro_log_scan(fd, &options, &visitor, &summary), 0);
    close(fd);
    free(bytes);
    return it;
}

/* The least blocks that have the range, of each file. */
static void expect_pieces(const char *name, const uint64_t (*expected)[2], size_t expected_count)
{
    struct hf_log_piece *pieces;
    size_t count;
    const int fds = unit_count_fds();
    ck_assert_int_eq(hf_log_pieces(handle, NULL, name, &pieces, &count), 0);
    ck_assert_uint_eq(count, expected_count);
    for (size_t i = 0; i < count; i++) {
        const struct seen seen = read_piece(&pieces[i]);
        ck_assert_uint_eq(seen.first, expected[i][0]);
        ck_assert_uint_eq(seen.last, expected[i][1]);
        ck_assert_uint_eq(pieces[i].first_seq, expected[i][0]);
        ck_assert_uint_eq(pieces[i].last_seq, expected[i][1]);
        ck_assert_uint_eq(pieces[i].log.is_open, seen.first >= 400);
        fd_close(&pieces[i].log.fd);
    }
    free(pieces);
    ck_assert_int_eq(unit_count_fds(), fds);
}

START_TEST(whole_blocks_of_each_file)
{
    struct hf_log_piece *pieces;
    size_t count;
    expect_pieces("seq:110..110", (const uint64_t[][2]){{100, 124}}, 1);
    expect_pieces("seq:124..125", (const uint64_t[][2]){{100, 149}}, 1);
    expect_pieces("seq:149..149", (const uint64_t[][2]){{125, 149}}, 1);
    expect_pieces("seq:199..200", (const uint64_t[][2]){{175, 199}, {200, 224}}, 2);
    expect_pieces("seq:0..1000",
                  (const uint64_t[][2]){{100, 199}, {200, 299}, {310, 399}, {400, 474}}, 4);
    expect_pieces("seq:301..320", (const uint64_t[][2]){{310, 324}}, 1);
    expect_pieces("seq:410..480", (const uint64_t[][2]){{400, 474}}, 1);
    ck_assert_int_eq(hf_log_pieces(handle, NULL, "seq:301..305", &pieces, &count), -ENOENT);
    ck_assert_int_eq(hf_log_pieces(handle, NULL, "seq:480..489", &pieces, &count), -ENOENT);
    ck_assert_ptr_null(pieces);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_copy_range");
    TCase *tests = tcase_create("log_copy_range");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, exactly_what_is_wanted);
    tcase_add_test(tests, what_is_refused);
    tcase_add_test(tests, whole_blocks_of_each_file);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
