/* SPDX-License-Identifier: MIT */
/* Files read without a daemon: what may be named, each start, what is told of what is missing, and
 * files that go away, are renamed or are damaged meanwhile. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_copy.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/client/holdfast.h"
#include "common/monotonic.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/unit.h"

#define BEGIN     (1760000000ull * NS_PER_S)
#define TIME(seq) ((int64_t)(1760000000000000 + (seq)*37) * 1000) /* as log_maker has it */

static char folder[64];

static void set_up(void)
{
    log_maker_folder(folder);
}

static void tear_down(void)
{
    log_maker_remove_folder(folder);
}

/* ---- segments ---- */

struct part {
    uint64_t first, end; /* numbers */
    uint64_t skip;       /* so many before `end` are not recorded */
    bool open, old;      /* not finished; without totals */
    int32_t flags;       /* of the first record */
    size_t damage;       /* record by number from first on, which is not sound; 0 = none */
    bool end_lost;       /* the last block is zeros */
};

static void totals_of(struct log_maker *maker, uint64_t records)
{
    uint64_t last = records > 0 ? maker->next_seq - 1 : 0;
    struct avro_log_totals totals = {.last_seq = last,
                                     .records = records,
                                     .first_time_ns = (uint64_t)TIME(maker->identity.first_seq),
                                     .last_time_ns = (uint64_t)TIME(last) + 999,
                                     .latest_ns = (uint64_t)TIME(last) + 999};
    int fd = log_maker_memfd(maker->bytes, maker->header_size);
    ck_assert_int_eq(avro_log_write_totals(fd, &totals), 1);
    ck_assert_int_eq(pread(fd, maker->bytes, maker->header_size, 0), (ssize_t)maker->header_size);
    close(fd);
}

static void name_of(const struct part *part, char ret_name[SEGMENT_NAME_SIZE])
{
    avro_log_segment_name("engine", part->first, BEGIN + part->first * NS_PER_S, ret_name);
    if (!part->open)
        *strstr(ret_name, ".open") = '\0';
}

static void put(const struct part *part)
{
    struct log_maker maker;
    char name[SEGMENT_NAME_SIZE];
    size_t last_block = 0;
    log_maker_begin(&maker, 256 * 1024, "engine", part->first, 7);
    maker.payload_max = 60;
    maker.other_flags = part->flags;
    for (uint64_t seq = part->first; seq < part->end - part->skip; seq++) {
        size_t at = maker.write_offset;
        ck_assert(log_maker_append(&maker));
        maker.other_flags = 0;
        if (part->damage > 0 && seq == part->first + part->damage)
            maker.bytes[at + 8] ^= 0x21;
        if (seq % 25 == 24) {
            last_block = maker.block_start;
            log_maker_seal(&maker);
        }
    }
    if (!part->open)
        log_maker_seal(&maker);
    if (!part->open && !part->old)
        totals_of(&maker, part->end - part->first - part->skip);
    if (part->end_lost)
        memset(maker.bytes + last_block, 0, maker.size - last_block);
    name_of(part, name);
    log_maker_write(folder, name, maker.bytes, part->open ? maker.size : maker.block_start);
    log_maker_free(&maker);
}

static hf *open_folder(void)
{
    hf *handle;
    const char *const paths[] = {folder};
    ck_assert_int_eq(hf_open_files(&handle, paths, 1), 0);
    ck_assert_str_eq(hf_file_problem(), "");
    return handle;
}

static hf_reader *read_from(hf *handle, const struct hf_start *start)
{
    hf_reader *reader;
    ck_assert_int_eq(hf_read(handle, NULL, start, HF_OLD, &reader), 0);
    return reader;
}

static void expect_data(hf_reader *reader, uint64_t first, uint64_t end)
{
    struct hf_datagram datagram;
    uint8_t payload[64];
    struct avro_log_record wanted;
    for (; first < end; first++) {
        int result = hf_next(reader, &datagram);
        if (result != HF_DATAGRAM)
            ck_abort_msg("%d, not %llu", result, (unsigned long long)first);
        log_maker_record(7, 60, first, payload, &wanted);
        if (datagram.seq != first || datagram.length != wanted.payload_length ||
            memcmp(datagram.data, payload, datagram.length) != 0 ||
            datagram.time_ns != TIME(first) + wanted.received_ns ||
            datagram.cut != (uint32_t)wanted.cut ||
            datagram.lost_before != (uint32_t)wanted.lost_before || datagram.why != 0 ||
            hf_check(reader, &datagram) != 1)
            ck_abort_msg("a wrong datagram %llu, not %llu", (unsigned long long)datagram.seq,
                         (unsigned long long)first);
    }
}

static void expect_lost(hf_reader *reader, uint64_t first, uint64_t count, uint32_t why)
{
    struct hf_datagram event;
    ck_assert_int_eq(hf_next(reader, &event), HF_LOST);
    ck_assert_uint_eq(event.seq, first);
    ck_assert_uint_eq(event.lost, count);
    ck_assert_str_eq(hf_why_text(event.why), hf_why_text(why));
    ck_assert_uint_eq(event.length, 0);
}

static void expect_end(hf_reader *reader)
{
    struct hf_datagram datagram;
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(hf_next(reader, &datagram), HF_FINISHED);
}

static void three_parts(void)
{
    put(&(struct part){.first = 100, .end = 200});
    put(&(struct part){.first = 200, .end = 333});
    put(&(struct part){.first = 333, .end = 400, .open = true});
}

/* ---- what may be named ---- */

START_TEST(test_a_folder_is_one_recording)
{
    three_parts();
    hf *handle = open_folder();
    hf_reader *reader = read_from(handle, NULL);
    expect_data(reader, 100, 400);
    expect_end(reader);
    ck_assert_int_eq(hf_reader_fd(reader), -EOPNOTSUPP);
    hf_reader_close(reader);
    hf_close(handle);
}
END_TEST

START_TEST(test_files_in_any_order_and_under_any_name)
{
    char paths[3][256], name[SEGMENT_NAME_SIZE], other[256];
    three_parts();
    const struct part parts[] = {{.first = 333, .open = true}, {.first = 100}, {.first = 200}};
    for (int i = 0; i < 3; i++) {
        name_of(&parts[i], name);
        snprintf(paths[i], sizeof paths[i], "%s/%s", folder, name);
    }
    snprintf(other, sizeof other, "%s/now.avro", folder);
    ck_assert_int_eq(rename(paths[2], other), 0);
    const char *const list[] = {paths[0], paths[1], other, paths[1]};
    hf *handle;
    ck_assert_int_eq(hf_open_files(&handle, list, 4), 0);
    hf_reader *reader = read_from(handle, NULL);
    expect_data(reader, 100, 400);
    expect_end(reader);
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_TIME, .time_ns = TIME(250)}), 0);
    expect_data(reader, 250, 400);
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_SEQ, .seq = 150}), 0);
    expect_data(reader, 150, 400);
    struct hf_log *logs;
    size_t count;
    ck_assert_int_eq(hf_log_list(handle, "engine", &logs, &count), 0);
    ck_assert_uint_eq(count, 3);
    ck_assert_str_eq(logs[1].name, "now.avro");
    free(logs);
    hf_close(handle); /* with its reader */
}
END_TEST

START_TEST(test_a_log_dir_has_channels)
{
    static const char *const channels[] = {"right", "left", ".positions", "empty"};
    char path[256];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, channels[i]);
        ck_assert_int_eq(mkdir(path, 0700), 0);
        for (uint64_t seq = 0; seq < 200 && i < 2; seq += 100) {
            struct log_maker maker;
            char name[SEGMENT_NAME_SIZE];
            log_maker_begin(&maker, 64 * 1024, channels[i], seq, 7);
            maker.payload_max = 60;
            snprintf(maker.identity.listen, sizeof maker.identity.listen, "127.0.0.1:1000%d", i);
            maker.header_size = avro_log_write_header(maker.bytes, &maker.identity);
            maker.block_start = maker.header_size;
            maker.write_offset = maker.header_size + AVRO_LOG_BLOCK_HEADER_SIZE;
            while (maker.next_seq < seq + 100)
                ck_assert(log_maker_append(&maker));
            log_maker_seal(&maker);
            totals_of(&maker, 100);
            avro_log_segment_name(channels[i], seq, BEGIN, name);
            *strstr(name, ".open") = '\0';
            log_maker_write(path, name, maker.bytes, maker.block_start);
            log_maker_free(&maker);
        }
    }
    hf *handle = open_folder();
    struct hf_channel *list;
    hf_reader *reader;
    size_t count;
    ck_assert_int_eq(hf_list(handle, &list, &count), 0);
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(list[0].name, "left");
    ck_assert_str_eq(list[1].name, "right");
    ck_assert_str_eq(list[0].listen, "127.0.0.1:10001");
    ck_assert_uint_eq(list[0].can, HF_CAN_OLD);
    ck_assert_uint_eq(list[0].first_seq, 0);
    ck_assert_uint_eq(list[0].end_seq, 200);
    free(list);
    ck_assert_int_eq(hf_read(handle, NULL, NULL, HF_OLD, &reader), -EINVAL); /* which one? */
    ck_assert_int_eq(hf_read(handle, "none", NULL, HF_OLD, &reader), -ENOENT);
    ck_assert_int_eq(hf_read(handle, "left", NULL, HF_OLD, &reader), 0);
    expect_data(reader, 0, 200);
    expect_end(reader);
    hf_close(handle);
}
END_TEST

START_TEST(test_what_is_refused)
{
    char path[256];
    hf *handle;
    const char *const paths[] = {path};
    const char *const folders[] = {folder};
    ck_assert_int_eq(hf_open_files(&handle, folders, 1), -ENODATA);
    ck_assert_ptr_nonnull(strstr(hf_file_problem(), folder));
    ck_assert_ptr_null(handle);
    ck_assert_int_eq(hf_open_files(&handle, NULL, 0), -ENODATA);
    snprintf(path, sizeof path, "%s/none.avro", folder);
    ck_assert_int_eq(hf_open_files(&handle, paths, 1), -ENOENT);
    ck_assert_ptr_nonnull(strstr(hf_file_problem(), "none.avro: No such file"));
    log_maker_write(folder, "text.avro", "not a log file at all", 21);
    snprintf(path, sizeof path, "%s/text.avro", folder);
    ck_assert_int_eq(hf_open_files(&handle, paths, 1), -EBADMSG);
    ck_assert_ptr_nonnull(strstr(hf_file_problem(), "text.avro: "));
    snprintf(path, sizeof path, "/dev/null");
    ck_assert_int_eq(hf_open_files(&handle, paths, 1), -EBADMSG);
    three_parts();
    handle = open_folder();
    hf_reader *reader;
    ck_assert_int_eq(hf_read(handle, NULL, NULL, HF_NEW, &reader), -EOPNOTSUPP);
    ck_assert_int_eq(hf_read(handle, NULL, NULL, HF_NEWEST, &reader), -EOPNOTSUPP);
    const struct hf_start position = {.at = HF_POSITION, .position = "mine"};
    ck_assert_int_eq(hf_read(handle, NULL, &position, HF_OLD, &reader), -EOPNOTSUPP);
    ck_assert_int_eq(hf_read(handle, NULL, NULL, HF_JOINED | HF_STRICT | HF_COPY, &reader), 0);
    expect_data(reader, 100, 400);
    expect_end(reader); /* and never HF_LIVE */
    ck_assert_int_eq(hf_seek(reader, &position), -EOPNOTSUPP);
    ck_assert_int_eq(hf_save(reader, 5), -EOPNOTSUPP);
    hf_close(handle);
}
END_TEST

START_TEST(test_lists)
{
    three_parts();
    put(&(struct part){.first = 500, .end = 600, .old = true});
    hf *handle = open_folder();
    struct hf_log *logs;
    size_t count;
    ck_assert_int_eq(hf_log_list(handle, NULL, &logs, &count), 0);
    ck_assert_uint_eq(count, 4);
    ck_assert_uint_eq(logs[1].first_seq, 200);
    ck_assert_uint_eq(logs[1].last_seq, 332);
    ck_assert_uint_eq(logs[1].records, 133);
    ck_assert_int_eq(logs[1].first_time_ns, TIME(200));
    ck_assert_int_eq(logs[1].last_time_ns, TIME(332) + 999);
    ck_assert(logs[1].has_totals && !logs[1].is_open && logs[1].fd == -1);
    ck_assert(!logs[2].has_totals && logs[2].is_open && logs[2].last_seq == 0);
    ck_assert(!logs[3].has_totals && !logs[3].is_open);
    ck_assert_uint_eq(logs[2].size, 256 * 1024);
    ck_assert_str_eq(logs[2].channel, "engine");
    ck_assert_int_eq(logs[0].created_ns, 1760000000000000000);
    free(logs);
    struct hf_channel *list;
    ck_assert_int_eq(hf_list(handle, &list, &count), 0);
    ck_assert_uint_eq(list[0].first_seq, 100);
    ck_assert_uint_eq(list[0].end_seq, 600); /* found at its end */
    free(list);
    hf_close(handle);
}
END_TEST

/* ---- starts ---- */

START_TEST(test_all_starts)
{
    three_parts();
    hf *handle = open_folder();
    hf_reader *reader = read_from(handle, &(struct hf_start){.at = HF_LAST});
    struct hf_lag lag;
    ck_assert_int_eq(hf_lag(reader, &lag), 0);
    ck_assert_uint_eq(lag.next_seq, 399);
    ck_assert_uint_eq(lag.end_seq, 400);
    ck_assert_uint_eq(lag.opened_seq, 400);
    ck_assert_uint_eq(lag.durable_seq, 0);
    ck_assert_int_eq(lag.newest_ns, 0);
    expect_data(reader, 399, 400);
    ck_assert_int_eq(hf_lag(reader, &lag), 0);
    ck_assert_uint_eq(lag.next_seq, 400);
    ck_assert_int_eq(lag.newest_ns / 1000, TIME(399) / 1000);
    expect_end(reader);
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_END}), 0);
    expect_end(reader);
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_SEQ, .seq = 12345}), 0);
    expect_end(reader);
    for (uint64_t seq = 100; seq < 400; seq += 7) {
        ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_SEQ, .seq = seq}), 0);
        ck_assert_int_eq(hf_lag(reader, &lag), 0);
        ck_assert_uint_eq(lag.next_seq, seq);
        expect_data(reader, seq, 400);
        ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_TIME, .time_ns = TIME(seq)}),
                         0);
        expect_data(reader, seq, 400);
        expect_end(reader);
    }
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_TIME, .time_ns = -1}), 0);
    expect_data(reader, 100, 400);
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_TIME, .time_ns = TIME(400)}), 0);
    expect_end(reader);
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_SEQ, .seq = 40}), 0);
    expect_lost(reader, 40, 60, HF_EXPIRED);
    expect_data(reader, 100, 400);
    hf_close(handle);
}
END_TEST

/* ---- what is missing ---- */

START_TEST(test_not_recorded)
{
    put(&(struct part){.first = 100, .end = 200, .skip = 20});
    put(&(struct part){.first = 200, .end = 300});
    put(&(struct part){.first = 310, .end = 350});
    hf *handle = open_folder();
    hf_reader *reader = read_from(handle, NULL);
    expect_data(reader, 100, 180);
    expect_lost(reader, 180, 20, HF_UNRECORDED);
    expect_data(reader, 200, 300);
    expect_lost(reader, 300, 10, HF_UNRECORDED);
    expect_data(reader, 310, 350);
    expect_end(reader);
    /* Strict: nothing after it, until it is sought elsewhere. */
    hf_reader *strict;
    struct hf_datagram datagram;
    ck_assert_int_eq(hf_read(handle, NULL, NULL, HF_OLD | HF_STRICT, &strict), 0);
    expect_data(strict, 100, 180);
    expect_lost(strict, 180, 20, HF_UNRECORDED);
    ck_assert_int_eq(hf_next(strict, &datagram), -ENODATA);
    ck_assert_int_eq(hf_next(strict, &datagram), -ENODATA);
    ck_assert_int_eq(hf_seek(strict, &(struct hf_start){.at = HF_SEQ, .seq = 310}), 0);
    expect_data(strict, 310, 350);
    expect_end(strict);
    hf_close(handle);
}
END_TEST

START_TEST(test_damaged)
{
    put(&(struct part){.first = 100, .end = 200, .damage = 10});
    put(&(struct part){.first = 200, .end = 300, .end_lost = true});
    put(&(struct part){.first = 300, .end = 400, .end_lost = true, .old = true});
    put(&(struct part){.first = 400, .end = 460, .open = true});
    put(&(struct part){.first = 500, .end = 525, .end_lost = true});
    hf *handle = open_folder();
    hf_reader *reader = read_from(handle, NULL);
    expect_data(reader, 100, 110);
    expect_lost(reader, 110, 1, HF_DAMAGED);
    expect_data(reader, 111, 200);
    expect_data(reader, 200, 275);
    expect_lost(reader, 275, 25, HF_DAMAGED);
    expect_data(reader, 300, 375);
    expect_lost(reader, 375, 25, HF_DAMAGED);
    expect_data(reader, 400, 460);
    expect_lost(reader, 460, 65, HF_DAMAGED);
    expect_end(reader);
    hf_close(handle);
}
END_TEST

START_TEST(test_nobody_was_receiving)
{
    put(&(struct part){.first = 100, .end = 150, .flags = AVRO_LOG_NOT_COVERED});
    put(&(struct part){.first = 160, .end = 200, .flags = AVRO_LOG_NOT_COVERED});
    hf *handle = open_folder();
    hf_reader *reader = read_from(handle, NULL);
    struct hf_datagram datagram;
    ck_assert_int_eq(hf_next(reader, &datagram), HF_DATAGRAM); /* nothing before the first one */
    ck_assert_uint_eq(datagram.seq, 100);
    ck_assert_uint_ne(datagram.flags & HF_FLAG_UNCOVERED, 0);
    expect_data(reader, 101, 150);
    expect_lost(reader, 150, 10, HF_UNRECORDED);
    expect_lost(reader, 160, 0, HF_UNCOVERED);
    struct hf_lag lag;
    ck_assert_int_eq(hf_lag(reader, &lag), 0);
    ck_assert_uint_eq(lag.next_seq, 160);
    ck_assert_int_eq(hf_next(reader, &datagram), HF_DATAGRAM);
    ck_assert_uint_eq(datagram.seq, 160);
    ck_assert_uint_ne(datagram.flags & HF_FLAG_UNCOVERED, 0);
    expect_data(reader, 161, 200);
    expect_end(reader);
    hf_close(handle);
}
END_TEST

/* ---- files that change ---- */

START_TEST(test_removed_and_renamed_meanwhile)
{
    char name[SEGMENT_NAME_SIZE], path[256], sealed[256];
    three_parts();
    hf *handle = open_folder();
    hf_reader *reader = read_from(handle, NULL);
    expect_data(reader, 100, 120);
    name_of(&(struct part){.first = 200}, name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_int_eq(unlink(path), 0);
    name_of(&(struct part){.first = 333, .open = true}, name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(sealed, sizeof sealed, "%s", path);
    *strstr(sealed, ".open") = '\0';
    ck_assert_int_eq(rename(path, sealed), 0);
    expect_data(reader, 120, 200);
    expect_lost(reader, 200, 133, HF_EXPIRED);
    expect_data(reader, 333, 400);
    expect_end(reader);
    /* Nothing is left. */
    ck_assert_int_eq(unlink(sealed), 0);
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_SEQ, .seq = 350}), 0);
    expect_lost(reader, 350, 50, HF_EXPIRED);
    expect_end(reader);
    hf_close(handle);
}
END_TEST

START_TEST(test_no_more_than_there_was_when_it_was_opened)
{
    put(&(struct part){.first = 100, .end = 150, .open = true});
    hf *handle = open_folder();
    hf_reader *reader = read_from(handle, NULL);
    put(&(struct part){.first = 100, .end = 190, .open = true}); /* it is being written */
    expect_data(reader, 100, 150);
    expect_end(reader);
    hf_close(handle);
}
END_TEST

START_TEST(test_a_segment_that_was_not_begun)
{
    static const uint8_t zeros[65536];
    put(&(struct part){.first = 100, .end = 150});
    char name[SEGMENT_NAME_SIZE], path[256];
    name_of(&(struct part){.first = 150, .open = true}, name);
    log_maker_write(folder, name, zeros, sizeof zeros);
    hf *handle = open_folder();
    hf_reader *reader = read_from(handle, NULL);
    expect_data(reader, 100, 150);
    expect_end(reader);
    hf_close(handle);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    const char *const paths[] = {path};
    ck_assert_int_eq(hf_open_files(&handle, paths, 1), 0);
    reader = read_from(handle, NULL);
    expect_end(reader);
    hf_close(handle);
}
END_TEST

/* Whatever the damage, the numbers that come and those that are told to be lost are all there is.
 */
START_TEST(test_every_number_comes_or_is_told)
{
    uint64_t state = log_maker_seed(20261127);
    for (int round = 0; round < 60; round++) {
        char name[SEGMENT_NAME_SIZE], path[256];
        three_parts();
        put(&(struct part){.first = 400, .end = 450});
        for (int i = 0; i < 3; i++) {
            static const uint64_t firsts[] = {100, 200, 400};
            name_of(&(struct part){.first = firsts[log_maker_random(&state) % 3]}, name);
            snprintf(path, sizeof path, "%s/%s", folder, name);
            int fd = open(path, O_RDWR | O_CLOEXEC);
            off_t size = lseek(fd, 0, SEEK_END);
            uint64_t junk = log_maker_random(&state);
            off_t at = (off_t)(log_maker_random(&state) % (uint64_t)size);
            ck_assert_int_eq(pwrite(fd, &junk, sizeof junk, at), sizeof junk);
            if (log_maker_random(&state) % 4 == 0)
                ck_assert_int_eq(ftruncate(fd, size - (off_t)(junk % 2000)), 0);
            close(fd);
        }
        hf *handle = open_folder();
        hf_reader *reader = read_from(handle, NULL);
        struct hf_datagram datagram;
        uint64_t next = 100;
        int result;
        while ((result = hf_next(reader, &datagram)) != HF_FINISHED) {
            ck_assert(result == HF_DATAGRAM || result == HF_LOST);
            ck_assert_uint_eq(datagram.seq, next);
            next += result == HF_DATAGRAM ? 1 : datagram.lost;
        }
        ck_assert_uint_ge(next, 400);
        ck_assert_uint_le(next, 450);
        hf_close(handle);
        tear_down();
        set_up();
    }
}
END_TEST

START_TEST(test_ten_thousand_files_take_few_descriptors)
{
    for (uint64_t i = 0; i < 10000; i++) {
        char name[SEGMENT_NAME_SIZE];
        name_of(&(struct part){.first = 1000 + i * 10}, name);
        log_maker_write(folder, name, "", 0);
    }
    put(&(struct part){.first = 1000, .end = 1010});
    put(&(struct part){.first = 50000, .end = 50010});
    put(&(struct part){.first = 100990, .end = 101000});
    int before = unit_count_fds();
    hf *handle = open_folder();
    ck_assert_int_le(unit_count_fds(), before + 1);
    hf_reader *reader = read_from(handle, &(struct hf_start){.at = HF_SEQ, .seq = 50005});
    expect_data(reader, 50005, 50010);
    expect_lost(reader, 50010, 50980, HF_DAMAGED);
    expect_data(reader, 100990, 101000);
    expect_end(reader);
    ck_assert_int_le(unit_count_fds(), before + 1);
    hf_close(handle);
    ck_assert_int_eq(unit_count_fds(), before);
}
END_TEST

/* ---- several recordings ---- */

/* A sealed file of engine's recording with this id (0: not known), below `folder`. */
static void put_of_recording(const char *below, int id, uint64_t first, uint64_t end)
{
    struct log_maker maker;
    char name[SEGMENT_NAME_SIZE], path[128];
    snprintf(path, sizeof path, "%s/%s", folder, below);
    ck_assert(mkdir(path, 0700) == 0 || errno == EEXIST);
    log_maker_begin(&maker, 64 * 1024, "engine", first, 7);
    maker.payload_max = 60;
    memset(maker.identity.log_id, id, sizeof maker.identity.log_id);
    maker.header_size = avro_log_write_header(maker.bytes, &maker.identity);
    while (maker.next_seq < end)
        ck_assert(log_maker_append(&maker));
    log_maker_seal(&maker);
    totals_of(&maker, end - first);
    avro_log_segment_name("engine", first, BEGIN + first * NS_PER_S, name);
    *strstr(name, ".open") = '\0';
    log_maker_write(path, name, maker.bytes, maker.block_start);
    log_maker_free(&maker);
}

static hf *open_below(const char *first, const char *second)
{
    char a[128], b[128];
    const char *const paths[] = {a, b};
    hf *handle;
    snprintf(a, sizeof a, "%s/%s", folder, first);
    snprintf(b, sizeof b, "%s/%s", folder, second);
    ck_assert_int_eq(hf_open_files(&handle, paths, 2), 0);
    return handle;
}

/* Two machines have a channel of the same name: which of both is number 5? */
START_TEST(test_two_recordings_are_refused)
{
    hf_reader *reader;
    struct hf_log *logs;
    struct hf_channel *channels;
    size_t count;
    put_of_recording("a", 1, 0, 20);
    put_of_recording("b", 2, 0, 20); /* under the same name */
    hf *handle = _i ? open_folder() : open_below("a", "b");
    ck_assert_int_eq(hf_list(handle, &channels, &count), 0);
    ck_assert_uint_eq(count, 1);
    free(channels);
    ck_assert_int_eq(hf_read(handle, "engine", NULL, HF_OLD, &reader), -ENOTUNIQ);
    ck_assert_ptr_nonnull(strstr(hf_file_problem(), "/a "));
    ck_assert_ptr_nonnull(strstr(hf_file_problem(), "/b"));
    ck_assert_ptr_nonnull(strstr(hf_file_problem(), "engine"));
    ck_assert_int_eq(hf_log_list(handle, NULL, &logs, &count), -ENOTUNIQ);
    hf_close(handle);
}
END_TEST

/* A recording whose files lie in two folders, some in both; of one nobody knows what it is. */
START_TEST(test_one_recording_in_two_folders)
{
    struct hf_log *logs;
    size_t count;
    put_of_recording("a", 1, 0, 20);
    put_of_recording("a", 1, 20, 40);
    put_of_recording("b", 1, 20, 40);
    put_of_recording("b", _i ? 1 : 0, 40, 60);
    hf *handle = open_below("a", "b");
    ck_assert_int_eq(hf_log_list(handle, NULL, &logs, &count), 0);
    ck_assert_uint_eq(count, 3);
    free(logs);
    hf_reader *reader = read_from(handle, NULL);
    expect_data(reader, 0, 60);
    expect_end(reader);
    hf_close(handle);
}
END_TEST

/* Somebody has copied files into the folder of another recording: no number names one datagram any
 * more, and still none is passed over. */
START_TEST(test_two_recordings_in_one_folder)
{
    put_of_recording("a", 1, 0, 40);
    put_of_recording("a", 2, 10, 20);
    put_of_recording("a", 2, 20, 30);
    hf *handle = open_below("a", "a");
    hf_reader *reader = read_from(handle, NULL);
    expect_data(reader, 0, 40);
    expect_lost(reader, 10, 0, HF_UNCOVERED);
    expect_data(reader, 10, 30);
    expect_end(reader);
    ck_assert_int_eq(hf_seek(reader, &(struct hf_start){.at = HF_SEQ, .seq = 25}), 0);
    expect_data(reader, 25, 30);
    expect_end(reader);
    hf_close(handle);
}
END_TEST

/* And the file of the first one was not finished: what it holds is bounded by no file of another.
 */
START_TEST(test_another_recording_behind_an_unfinished_file)
{
    char from[256], to[256], name[SEGMENT_NAME_SIZE];
    put_of_recording("a", 1, 0, 40);
    put_of_recording("a", 2, 10, 15);
    put_of_recording("a", 2, 15, 20);
    avro_log_segment_name("engine", 0, BEGIN, name);
    snprintf(to, sizeof to, "%s/a/%s", folder, name);
    snprintf(from, sizeof from, "%s", to);
    *strstr(from, ".open") = '\0';
    ck_assert_int_eq(rename(from, to), 0);
    hf *handle = open_below("a", "a");
    hf_reader *reader = read_from(handle, NULL);
    expect_data(reader, 0, 40);
    expect_lost(reader, 10, 0, HF_UNCOVERED);
    expect_data(reader, 10, 20);
    expect_end(reader);
    hf_close(handle);
}
END_TEST

/* A finished file without a record lacks none. */
START_TEST(test_an_empty_file_with_totals)
{
    struct hf_channel *channels;
    size_t count;
    put_of_recording("a", 1, 0, 0);
    hf *handle = open_below("a", "a");
    ck_assert_int_eq(hf_list(handle, &channels, &count), 0);
    ck_assert_uint_eq(channels[0].end_seq, 0);
    free(channels);
    expect_end(read_from(handle, NULL));
    hf_close(handle);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("offline");
    TCase *tests = tcase_create("files");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_a_folder_is_one_recording);
    tcase_add_test(tests, test_files_in_any_order_and_under_any_name);
    tcase_add_test(tests, test_a_log_dir_has_channels);
    tcase_add_test(tests, test_what_is_refused);
    tcase_add_test(tests, test_lists);
    tcase_add_test(tests, test_all_starts);
    tcase_add_test(tests, test_not_recorded);
    tcase_add_test(tests, test_damaged);
    tcase_add_test(tests, test_nobody_was_receiving);
    tcase_add_test(tests, test_removed_and_renamed_meanwhile);
    tcase_add_test(tests, test_no_more_than_there_was_when_it_was_opened);
    tcase_add_test(tests, test_a_segment_that_was_not_begun);
    tcase_add_test(tests, test_every_number_comes_or_is_told);
    tcase_add_test(tests, test_ten_thousand_files_take_few_descriptors);
    tcase_add_loop_test(tests, test_two_recordings_are_refused, 0, 2);
    tcase_add_loop_test(tests, test_one_recording_in_two_folders, 0, 2);
    tcase_add_test(tests, test_two_recordings_in_one_folder);
    tcase_add_test(tests, test_another_recording_behind_an_unfinished_file);
    tcase_add_test(tests, test_an_empty_file_with_totals);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
