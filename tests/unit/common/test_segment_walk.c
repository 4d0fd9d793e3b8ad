/* SPDX-License-Identifier: MIT */
/* A walk through a segment gives exactly what a scan calls sound: sealed, unfinished, damaged in
 * any way, and while it is being written. */
#include "common/client/segment_walk.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/avro_log_scan.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/unit.h"

#define FIRST 100

/* ---- what there is ---- */

struct listing {
    struct entry {
        uint64_t seq;
        uint32_t crc;
        uint64_t time_ns;
    } * entries;
    size_t count, room;
};

static void append(struct listing *list, const struct avro_log_record *record)
{
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 1024;
        list->entries = reallocarray(list->entries, list->room, sizeof *list->entries);
        ck_assert_ptr_nonnull(list->entries);
    }
    list->entries[list->count++] = (struct entry){.seq = (uint64_t)record->seq,
                                                  .crc = record->crc32c,
                                                  .time_ns = avro_log_record_time_ns(record)};
}

static void forget(struct listing *list)
{
    free(list->entries);
    *list = (struct listing){0};
}

static int see(void *context, const struct avro_log_found *found)
{
    append(context, &found->record);
    return 0;
}

static struct listing scan(int fd, bool open)
{
    struct listing list = {0};
    const struct avro_log_visitor visitor = {.context = &list, .record = see};
    const struct avro_log_scan_options options = {
        .open = open, .seq_end = UINT64_MAX, .skip_unreadable = true};
    struct avro_log_summary summary;
    ck_assert_int_eq(avro_log_scan(fd, &options, &visitor, &summary), 0);
    ck_assert_uint_eq(summary.records, list.count);
    return list;
}

static struct segment_walk *open_walk(int fd, bool open)
{
    struct segment_walk *walk;
    const char *what;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    ck_assert_int_ge(own, 0);
    ck_assert_int_eq(segment_walk_open(own, open, &walk, &what), 0);
    return walk;
}

static void go_on(struct segment_walk *walk, struct listing *list)
{
    struct avro_log_record record;
    int result;
    while ((result = segment_walk_next(walk, 0, &record)) == WALK_RECORD)
        append(list, &record);
    ck_assert_int_eq(result, WALK_END);
    ck_assert_int_eq(segment_walk_next(walk, 0, &record), WALK_END);
}

static void expect_same(const struct listing *walked, const struct listing *scanned,
                        const char *what, uint64_t round)
{
    for (size_t i = 0; i < walked->count && i < scanned->count; i++)
        if (walked->entries[i].seq != scanned->entries[i].seq ||
            walked->entries[i].crc != scanned->entries[i].crc)
            ck_abort_msg("%s, round %llu: record %zu is %llu, not %llu", what,
                         (unsigned long long)round, i, (unsigned long long)walked->entries[i].seq,
                         (unsigned long long)scanned->entries[i].seq);
    ck_assert_msg(walked->count == scanned->count, "%s, round %llu: %zu records, not %zu", what,
                  (unsigned long long)round, walked->count, scanned->count);
}

/* Both ways over the same file. Returns how many records there are; 0 also when none can be. */
static size_t compare(int fd, bool open, const char *what, uint64_t round)
{
    struct listing scanned = scan(fd, open), walked = {0};
    struct segment_walk *walk;
    const char *why;
    size_t count = scanned.count;
    if (segment_walk_open(fcntl(fd, F_DUPFD_CLOEXEC, 0), open, &walk, &why) == 0) {
        go_on(walk, &walked);
        segment_walk_close(walk);
    }
    expect_same(&walked, &scanned, what, round);
    forget(&scanned);
    forget(&walked);
    return count;
}

static void make(struct log_maker *maker, size_t size, size_t payload_max, uint64_t seed)
{
    log_maker_begin(maker, size, "engine", FIRST, seed);
    maker->payload_max = payload_max;
}

/* As the recorder does. */
static void seal_when_full(struct log_maker *maker)
{
    if (maker->write_offset - maker->block_start >= AVRO_LOG_BLOCK_SIZE)
        log_maker_seal(maker);
}

/* Until the file is full, but for what the last record needs: a block each so many records. */
static void fill(struct log_maker *maker, uint64_t per_block, uint64_t gap_every)
{
    for (uint64_t i = 1; log_maker_append(maker); i++) {
        if (i % per_block == 0)
            log_maker_seal(maker);
        seal_when_full(maker);
        if (gap_every > 0 && i % gap_every == 0)
            log_maker_skip(maker, i % 7);
    }
}

static int sealed_file(struct log_maker *maker)
{
    log_maker_seal(maker);
    size_t size = maker->block_start < maker->size ? maker->block_start : maker->size;
    return log_maker_memfd(maker->bytes, size);
}

/* ---- sound files ---- */

START_TEST(test_sealed_files_of_all_sizes)
{
    static const size_t payloads[] = {0, 1, 60, 300, 9000, 65507};
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        struct log_maker maker;
        make(&maker, 2 * 1024 * 1024, payloads[i], 1 + i);
        fill(&maker, payloads[i] < 1000 ? 700 : 3, 0);
        int fd = sealed_file(&maker);
        size_t count = compare(fd, false, "sealed", payloads[i]);
        ck_assert_uint_ge(count, 20);
        compare(fd, true, "sealed, said to be open", payloads[i]);
        struct segment_walk *walk = open_walk(fd, false);
        struct listing list = {0};
        go_on(walk, &list);
        ck_assert(!segment_walk_was_damaged(walk));
        ck_assert_str_eq(segment_walk_identity(walk)->channel, "engine");
        ck_assert_uint_eq(list.entries[0].seq, FIRST);
        forget(&list);
        segment_walk_close(walk);
        close(fd);
        log_maker_free(&maker);
    }
}
END_TEST

START_TEST(test_gaps_are_no_damage)
{
    struct log_maker maker;
    make(&maker, 512 * 1024, 60, 3);
    fill(&maker, 40, 100);
    int fd = sealed_file(&maker);
    compare(fd, false, "gaps", 0);
    struct segment_walk *walk = open_walk(fd, false);
    struct listing list = {0};
    go_on(walk, &list);
    ck_assert(!segment_walk_was_damaged(walk));
    forget(&list);
    segment_walk_close(walk);
    close(fd);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_unfinished_files)
{
    struct log_maker maker;
    make(&maker, 512 * 1024, 60, 4);
    for (int i = 0; i < 1000; i++) {
        ck_assert(log_maker_append(&maker));
        if (i % 90 == 89)
            log_maker_seal(&maker);
    }
    int fd = log_maker_memfd(maker.bytes, maker.size);
    ck_assert_uint_eq(compare(fd, true, "unfinished", 0), 1000);
    struct segment_walk *walk = open_walk(fd, true);
    struct listing list = {0};
    go_on(walk, &list);
    ck_assert(!segment_walk_was_damaged(walk));
    forget(&list);
    segment_walk_close(walk);
    /* Half a record, and something old behind it. */
    for (size_t less = 1; less < 40; less++) {
        ck_assert_int_eq(pwrite(fd, "\0", 1, (off_t)(maker.write_offset - less)), 1);
        compare(fd, true, "half a record", less);
    }
    close(fd);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_not_a_log_file)
{
    struct segment_walk *walk;
    const char *what;
    char zeros[8192] = {0};
    int fd = log_maker_memfd(zeros, sizeof zeros);
    ck_assert_int_eq(segment_walk_open(fd, false, &walk, &what), -EBADMSG);
    ck_assert_str_ne(what, "");
    fd = log_maker_memfd("Obj", 3);
    ck_assert_int_eq(segment_walk_open(fd, true, &walk, &what), -EBADMSG);
    fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(segment_walk_open(fd, true, &walk, &what), -EISDIR);
    ck_assert_ptr_null(walk);
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1); /* taken over in any case */
}
END_TEST

/* ---- damage ---- */

static void damage(uint8_t *bytes, size_t from, size_t size, uint64_t *state)
{
    size_t at = from + log_maker_random(state) % (size - from);
    size_t length = log_maker_random(state) % 5000, other;
    switch (log_maker_random(state) % 6) {
    case 0:
    case 1:
        bytes[at] ^= (uint8_t)(1u << log_maker_random(state) % 8);
        break;
    case 2: /* a page */
        at = at / 4096 * 4096;
        length = size - at < 4096 ? size - at : 4096;
        memset(bytes + at, 0, length);
        break;
    case 3:
        memset(bytes + at, 0, size - at < length ? size - at : length);
        break;
    case 4: /* what belongs elsewhere */
        other = from + log_maker_random(state) % (size - from);
        length = size - at < length ? size - at : length;
        memmove(bytes + at, bytes + other, size - other < length ? size - other : length);
        break;
    default:
        for (size_t i = 0; i < 16 && at + i < size; i++)
            bytes[at + i] = (uint8_t)log_maker_random(state);
    }
}

static void damage_often(size_t payload_max, uint64_t per_block, bool open, bool header)
{
    uint64_t state = log_maker_seed(20261127) + payload_max;
    for (uint64_t round = 0; round < 150; round++) {
        struct log_maker maker;
        make(&maker, 300 * 1024, payload_max, log_maker_random(&state));
        fill(&maker, per_block, round % 3 ? 0 : 50);
        if (!open)
            log_maker_seal(&maker);
        size_t size = open || maker.block_start > maker.size ? maker.size : maker.block_start;
        for (uint64_t i = 0; i < 1 + round % 8; i++)
            damage(maker.bytes, header ? 0 : maker.header_size, size, &state);
        if (round % 5 == 0)
            size -= log_maker_random(&state) % (size / 2);
        int fd = log_maker_memfd(maker.bytes, size);
        compare(fd, open, header ? "damaged header" : "damaged", round);
        close(fd);
        log_maker_free(&maker);
    }
}

START_TEST(test_damaged_sealed_files)
{
    damage_often(60, 100, false, false);
    damage_often(0, 500, false, false);
    damage_often(3000, 8, false, false);
    damage_often(65507, 2, false, false);
}
END_TEST

START_TEST(test_damaged_unfinished_files)
{
    damage_often(60, 100, true, false);
    damage_often(3000, 8, true, false);
}
END_TEST

START_TEST(test_damaged_headers)
{
    for (int open = 0; open < 2; open++)
        for (uint64_t round = 0; round < 20; round++) {
            struct log_maker maker;
            make(&maker, 200 * 1024, 100, round);
            fill(&maker, 60, 0);
            if (!open)
                log_maker_seal(&maker);
            memset(maker.bytes + round * 50, 0xa5, 100);
            int fd = log_maker_memfd(maker.bytes, maker.size);
            compare(fd, open, "header", round);
            close(fd);
            log_maker_free(&maker);
        }
    damage_often(60, 100, false, true);
}
END_TEST

/* A block with more records than are noted at once isn't written by anybody, but may be met; here
 * many blocks in a row, each of them damaged. */
START_TEST(test_all_blocks_damaged)
{
    struct log_maker maker;
    make(&maker, 1024 * 1024, 60, 5);
    fill(&maker, 50, 0);
    uint64_t state = 1;
    log_maker_seal(&maker);
    for (size_t at = maker.header_size; at < maker.block_start; at += 3000)
        maker.bytes[at + log_maker_random(&state) % 1000] ^= 4;
    int fd = sealed_file(&maker);
    size_t count = compare(fd, false, "all blocks damaged", 0);
    ck_assert_uint_gt(count, 5000);
    struct segment_walk *walk = open_walk(fd, false);
    struct listing list = {0};
    go_on(walk, &list);
    ck_assert(segment_walk_was_damaged(walk));
    forget(&list);
    segment_walk_close(walk);
    close(fd);
    log_maker_free(&maker);
}
END_TEST

/* The file loses its contents while it is read: no wrong record comes, and the walk ends. */
START_TEST(test_punched_and_cut_while_it_is_read)
{
    for (int how = 0; how < 2; how++)
        for (size_t before = 0; before < 4000; before += 371) {
            struct log_maker maker;
            make(&maker, 1024 * 1024, 60, 6);
            fill(&maker, 300, 0);
            int fd = sealed_file(&maker);
            struct segment_walk *walk = open_walk(fd, false);
            struct avro_log_record record;
            uint64_t last = FIRST - 1;
            for (size_t i = 0; i < before; i++) {
                ck_assert_int_eq(segment_walk_next(walk, 0, &record), WALK_RECORD);
                last = (uint64_t)record.seq;
            }
            if (how == 0)
                ck_assert_int_eq(ftruncate(fd, 5000 + (off_t)before * 3), 0);
            else
                ck_assert_int_eq(
                    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1024 * 1024), 0);
            while (segment_walk_next(walk, 0, &record) == WALK_RECORD) {
                ck_assert_uint_eq((uint64_t)record.seq, last + 1);
                ck_assert(log_maker_is_genuine(&maker, &record));
                last = (uint64_t)record.seq;
            }
            ck_assert_uint_lt(last, maker.next_seq - 1);
            segment_walk_close(walk);
            close(fd);
            log_maker_free(&maker);
        }
}
END_TEST

/* ---- being written ---- */

struct live {
    struct log_maker maker;
    int fd;
    struct segment_walk *walk;
    struct segment_limit limit;
    uint64_t next; /* of the records that came back */
};

/* As in the file: zeros where the open block's header will be. */
static void publish(struct live *live)
{
    const struct log_maker *maker = &live->maker;
    static const uint8_t zeros[AVRO_LOG_BLOCK_HEADER_SIZE];
    ck_assert_int_eq(pwrite(live->fd, maker->bytes, maker->size, 0), (ssize_t)maker->size);
    if (maker->block_start + sizeof zeros <= maker->size)
        ck_assert_int_eq(pwrite(live->fd, zeros, sizeof zeros, (off_t)maker->block_start),
                         (ssize_t)sizeof zeros);
    live->limit.end = maker->write_offset;
    live->limit.open_block = maker->block_start;
    segment_walk_set_limit(live->walk, &live->limit);
}

static void read_live(struct live *live)
{
    struct avro_log_record record;
    int result;
    while ((result = segment_walk_next(live->walk, 0, &record)) == WALK_RECORD) {
        if ((uint64_t)record.seq != live->next || !log_maker_is_genuine(&live->maker, &record))
            ck_abort_msg("record %lld, not %llu", (long long)record.seq,
                         (unsigned long long)live->next);
        live->next++;
    }
    ck_assert_int_eq(result, WALK_END);
}

static void begin_live(struct live *live, size_t payload_max, uint64_t seed)
{
    *live = (struct live){.limit.seq_end = UINT64_MAX, .next = FIRST};
    make(&live->maker, 1024 * 1024, payload_max, seed);
    live->fd = log_maker_memfd(live->maker.bytes, live->maker.size);
    live->walk = open_walk(live->fd, false);
    publish(live);
}

static void end_live(struct live *live)
{
    segment_walk_close(live->walk);
    close(live->fd);
    log_maker_free(&live->maker);
}

START_TEST(test_live_limits_move_step_by_step)
{
    static const size_t payloads[] = {0, 60, 5000, 65507};
    uint64_t state = log_maker_seed(42);
    for (size_t i = 0; i < 40; i++) {
        struct live live;
        begin_live(&live, payloads[i % 4], log_maker_random(&state));
        for (int step = 0; step < 200; step++) {
            for (uint64_t n = log_maker_random(&state) % 12; n > 0; n--) {
                log_maker_append(&live.maker);
                seal_when_full(&live.maker);
            }
            if (log_maker_random(&state) % 6 == 0)
                log_maker_seal(&live.maker);
            publish(&live);
            if (log_maker_random(&state) % 3 > 0) {
                read_live(&live);
                ck_assert_uint_eq(live.next, live.maker.next_seq);
            } else { /* not all of it */
                struct avro_log_record record;
                if (segment_walk_next(live.walk, 0, &record) == WALK_RECORD)
                    ck_assert_uint_eq((uint64_t)record.seq, live.next++);
            }
        }
        /* It is sealed and cut to its length. */
        log_maker_seal(&live.maker);
        publish(&live);
        ck_assert_int_eq(ftruncate(live.fd, (off_t)live.maker.block_start), 0);
        live.limit.end = live.limit.open_block = UINT64_MAX;
        segment_walk_set_limit(live.walk, &live.limit);
        read_live(&live);
        ck_assert_uint_eq(live.next, live.maker.next_seq);
        ck_assert(!segment_walk_was_damaged(live.walk));
        end_live(&live);
    }
}
END_TEST

/* What lies behind the limit is sound, and not committed. */
START_TEST(test_nothing_behind_the_limit)
{
    struct live live;
    begin_live(&live, 60, 7);
    for (int i = 0; i < 100; i++)
        ck_assert(log_maker_append(&live.maker));
    struct segment_limit limit = {.end = live.maker.write_offset,
                                  .open_block = live.maker.block_start,
                                  .seq_end = UINT64_MAX};
    for (int i = 0; i < 100; i++)
        ck_assert(log_maker_append(&live.maker));
    publish(&live);
    segment_walk_set_limit(live.walk, &limit);
    read_live(&live);
    ck_assert_uint_eq(live.next, FIRST + 100);
    /* Nor what belongs to another file. */
    live.limit.seq_end = FIRST + 150;
    segment_walk_set_limit(live.walk, &live.limit);
    read_live(&live);
    ck_assert_uint_eq(live.next, FIRST + 150);
    live.limit.seq_end = UINT64_MAX;
    segment_walk_set_limit(live.walk, &live.limit);
    read_live(&live);
    ck_assert_uint_eq(live.next, FIRST + 200);
    end_live(&live);
}
END_TEST

/* A record in the open block is damaged: those behind it come when something vouches for them. */
START_TEST(test_damage_in_the_open_block)
{
    struct live live;
    struct listing list = {0};
    begin_live(&live, 60, 8);
    for (int i = 0; i < 30; i++)
        ck_assert(log_maker_append(&live.maker));
    size_t bad = live.maker.write_offset + 9;
    for (int i = 0; i < 30; i++)
        ck_assert(log_maker_append(&live.maker));
    live.maker.bytes[bad] ^= 0x10;
    for (int i = 0; i < 20; i++) {
        publish(&live);
        go_on(live.walk, &list);
        ck_assert(log_maker_append(&live.maker));
    }
    log_maker_seal(&live.maker);
    for (int i = 0; i < 30; i++)
        ck_assert(log_maker_append(&live.maker));
    publish(&live);
    go_on(live.walk, &list);
    ck_assert_uint_eq(list.count, 109);
    for (size_t i = 0; i < list.count; i++)
        ck_assert_uint_eq(list.entries[i].seq, FIRST + i + (i >= 30));
    ck_assert(segment_walk_was_damaged(live.walk));
    forget(&list);
    end_live(&live);
}
END_TEST

/* ---- finding ---- */

static void expect_at(struct segment_walk *walk, const struct listing *all, size_t index)
{
    struct avro_log_record record;
    int result = segment_walk_next(walk, 0, &record);
    if (index >= all->count) {
        ck_assert_int_eq(result, WALK_END);
        return;
    }
    ck_assert_int_eq(result, WALK_RECORD);
    ck_assert_uint_eq((uint64_t)record.seq, all->entries[index].seq);
    if (index + 1 < all->count) { /* and it goes on from there */
        ck_assert_int_eq(segment_walk_next(walk, 0, &record), WALK_RECORD);
        ck_assert_uint_eq((uint64_t)record.seq, all->entries[index + 1].seq);
    }
}

static size_t find_seq(const struct listing *all, uint64_t seq)
{
    size_t i = 0;
    while (i < all->count && all->entries[i].seq < seq)
        i++;
    return i;
}

static size_t find_time(const struct listing *all, uint64_t time_ns)
{
    size_t i = 0;
    while (i < all->count && all->entries[i].time_ns < time_ns)
        i++;
    return i;
}

static void expect_last_before(struct segment_walk *walk, const struct listing *all, uint64_t end)
{
    const size_t index = find_seq(all, end);
    uint64_t seq = 0;
    ck_assert_int_eq(segment_walk_seek_last(walk, end, &seq), index > 0);
    if (index == 0)
        return;
    ck_assert_uint_eq(seq, all->entries[index - 1].seq);
    expect_at(walk, all, index - 1);
}

static void seek_everywhere(int fd, bool open, uint64_t *state)
{
    struct listing all = scan(fd, open);
    struct segment_walk *walk = open_walk(fd, open);
    ck_assert_uint_gt(all.count, 0);
    const struct entry *last = &all.entries[all.count - 1];
    for (int i = 0; i < 200; i++) {
        uint64_t seq = FIRST - 5 + log_maker_random(state) % (last->seq - FIRST + 10);
        ck_assert_int_eq(segment_walk_seek_seq(walk, seq), 0);
        expect_at(walk, &all, find_seq(&all, seq));
        expect_last_before(walk, &all, seq);
        const struct entry *some = &all.entries[log_maker_random(state) % all.count];
        uint64_t time_ns = some->time_ns + log_maker_random(state) % 3 - 1;
        ck_assert_int_eq(segment_walk_seek_time(walk, (int64_t)time_ns), 0);
        expect_at(walk, &all, find_time(&all, time_ns));
    }
    ck_assert_int_eq(segment_walk_seek_time(walk, INT64_MIN), 0);
    expect_at(walk, &all, 0);
    ck_assert_int_eq(segment_walk_seek_time(walk, INT64_MAX), 0);
    expect_at(walk, &all, all.count);
    ck_assert_int_eq(segment_walk_seek_seq(walk, 0), 0);
    expect_at(walk, &all, 0);
    expect_last_before(walk, &all, 0);
    expect_last_before(walk, &all, AVRO_LOG_SEQ_MAX);
    expect_last_before(walk, &all, UINT64_MAX);
    segment_walk_close(walk);
    forget(&all);
}

START_TEST(test_seek_in_sound_files)
{
    static const size_t payloads[] = {0, 60, 3000, 65507};
    uint64_t state = log_maker_seed(43);
    for (size_t i = 0; i < 8; i++) {
        struct log_maker maker;
        make(&maker, 3 * 1024 * 1024, payloads[i % 4], log_maker_random(&state));
        fill(&maker, i % 4 < 2 ? 500 : 5, i < 4 ? 0 : 300);
        int fd = sealed_file(&maker);
        seek_everywhere(fd, false, &state);
        seek_everywhere(fd, true, &state);
        close(fd);
        log_maker_free(&maker);
    }
}
END_TEST

START_TEST(test_seek_in_unfinished_and_damaged_files)
{
    uint64_t state = log_maker_seed(44);
    for (uint64_t round = 0; round < 12; round++) {
        struct log_maker maker;
        make(&maker, 4 * 1024 * 1024, 60, log_maker_random(&state));
        for (int i = 1; i <= 12000; i++) {
            ck_assert(log_maker_append(&maker));
            if (i % 600 == 0)
                log_maker_seal(&maker);
        }
        for (uint64_t i = 0; i < round; i++)
            maker.bytes[maker.header_size +
                        log_maker_random(&state) % (maker.write_offset - maker.header_size)] ^= 8;
        int fd = log_maker_memfd(maker.bytes, maker.size);
        seek_everywhere(fd, true, &state);
        close(fd);
        log_maker_free(&maker);
    }
}
END_TEST

START_TEST(test_seek_while_it_is_written)
{
    struct live live;
    struct avro_log_record record;
    begin_live(&live, 60, 9);
    for (int i = 1; i <= 8000; i++) {
        ck_assert(log_maker_append(&live.maker));
        if (i % 500 == 0 && i < 7700)
            log_maker_seal(&live.maker);
    }
    publish(&live);
    for (uint64_t seq = FIRST; seq < live.maker.next_seq; seq += 97) {
        ck_assert_int_eq(segment_walk_seek_seq(live.walk, seq), 0);
        ck_assert_int_eq(segment_walk_next(live.walk, 0, &record), WALK_RECORD);
        ck_assert_uint_eq((uint64_t)record.seq, seq);
        int64_t time_ns = (1760000000000000 + (int64_t)(seq * 37)) * 1000;
        ck_assert_int_eq(segment_walk_seek_time(live.walk, time_ns), 0);
        ck_assert_int_eq(segment_walk_next(live.walk, 0, &record), WALK_RECORD);
        ck_assert_uint_eq((uint64_t)record.seq, seq);
    }
    ck_assert_int_eq(segment_walk_seek_seq(live.walk, live.maker.next_seq), 0);
    live.next = live.maker.next_seq;
    for (int i = 0; i < 20; i++) {
        ck_assert(log_maker_append(&live.maker));
        publish(&live);
        read_live(&live);
        ck_assert_uint_eq(live.next, live.maker.next_seq);
    }
    end_live(&live);
}
END_TEST

/* A log is relayed: payloads hold pieces of this very file, markers, blocks and records. */
START_TEST(test_seek_among_payloads_that_are_this_log)
{
    struct log_maker maker;
    make(&maker, 4 * 1024 * 1024, 60, 10);
    for (int i = 1; i <= 3000; i++) {
        ck_assert(log_maker_append(&maker));
        if (i % 60 == 0)
            log_maker_seal(&maker);
    }
    log_maker_seal(&maker);
    static uint8_t copy[65000];
    memcpy(copy, maker.bytes + maker.header_size - AVRO_LOG_SYNC_SIZE, sizeof copy);
    for (int i = 0; i < 45; i++) {
        struct avro_log_record record = {.seq = (int64_t)maker.next_seq,
                                         .received_at_us =
                                             1760000000000000 + (int64_t)(maker.next_seq * 37),
                                         .source = "10.0.0.7:1",
                                         .source_length = 10,
                                         .payload = copy,
                                         .payload_length = sizeof copy};
        uint8_t *start = maker.bytes + maker.write_offset;
        uint8_t *to = avro_log_write_record_head(start, &record);
        memcpy(to, copy, sizeof copy);
        to = avro_log_write_record_crc(start, to + sizeof copy);
        maker.write_offset += (size_t)(to - start);
        maker.block_records++;
        maker.next_seq++;
        log_maker_seal(&maker);
    }
    int fd = sealed_file(&maker);
    uint64_t state = 1;
    compare(fd, false, "relayed log", 0);
    seek_everywhere(fd, false, &state);
    close(fd);
    log_maker_free(&maker);
}
END_TEST

/* The clock was set back in the middle: a record at this time or later comes, and none is missed
 * where the blocks that are looked at show the step. */
START_TEST(test_seek_where_the_clock_was_set_back)
{
    struct log_maker maker;
    make(&maker, 3 * 1024 * 1024, 0, 11);
    static const uint8_t payload[40];
    uint64_t state = 5;
    for (int i = 0; i < 20000; i++) {
        int64_t us = 1760000000000000 + i * 100 - (i >= 12000 ? 800000 : 0);
        struct avro_log_record record = {.seq = (int64_t)maker.next_seq,
                                         .received_at_us = us,
                                         .source = "10.0.0.7:1",
                                         .source_length = 10,
                                         .payload = payload,
                                         .payload_length = sizeof payload};
        uint8_t *start = maker.bytes + maker.write_offset;
        uint8_t *to = avro_log_write_record_head(start, &record);
        memcpy(to, payload, sizeof payload);
        to = avro_log_write_record_crc(start, to + sizeof payload);
        maker.write_offset += (size_t)(to - start);
        maker.block_records++;
        maker.next_seq++;
        if (i % 700 == 0)
            log_maker_seal(&maker);
    }
    int fd = sealed_file(&maker);
    struct listing all = scan(fd, false);
    struct segment_walk *walk = open_walk(fd, false);
    for (int i = 0; i < 300; i++) {
        struct avro_log_record record;
        size_t wanted = log_maker_random(&state) % 20000;
        uint64_t time_ns = all.entries[wanted].time_ns;
        ck_assert_int_eq(segment_walk_seek_time(walk, (int64_t)time_ns), 0);
        ck_assert_int_eq(segment_walk_next(walk, 0, &record), WALK_RECORD);
        size_t index = (size_t)record.seq - FIRST;
        ck_assert_uint_ge(all.entries[index].time_ns, time_ns);
        ck_assert(index == 0 || all.entries[index - 1].time_ns < time_ns);
    }
    segment_walk_close(walk);
    forget(&all);
    close(fd);
    log_maker_free(&maker);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("segment_walk");
    TCase *tests = tcase_create("sound");
    tcase_add_test(tests, test_sealed_files_of_all_sizes);
    tcase_add_test(tests, test_gaps_are_no_damage);
    tcase_add_test(tests, test_unfinished_files);
    tcase_add_test(tests, test_not_a_log_file);
    suite_add_tcase(suite, tests);
    tests = tcase_create("damaged");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_damaged_sealed_files);
    tcase_add_test(tests, test_damaged_unfinished_files);
    tcase_add_test(tests, test_damaged_headers);
    tcase_add_test(tests, test_all_blocks_damaged);
    tcase_add_test(tests, test_punched_and_cut_while_it_is_read);
    suite_add_tcase(suite, tests);
    tests = tcase_create("being written");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_live_limits_move_step_by_step);
    tcase_add_test(tests, test_nothing_behind_the_limit);
    tcase_add_test(tests, test_damage_in_the_open_block);
    suite_add_tcase(suite, tests);
    tests = tcase_create("finding");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_seek_in_sound_files);
    tcase_add_test(tests, test_seek_in_unfinished_and_damaged_files);
    tcase_add_test(tests, test_seek_while_it_is_written);
    tcase_add_test(tests, test_seek_among_payloads_that_are_this_log);
    tcase_add_test(tests, test_seek_where_the_clock_was_set_back);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
