/* SPDX-License-Identifier: MIT */
/* Log files as a whole: by descriptor, and as bytes out of a pipe. Each is the file that was asked
 * for, or a refusal; who reads slowly or not at all keeps nobody waiting, and nothing leaks. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/gate_rig.h"
#include "tests/lib/unit.h"
#include "worker/gate/gate_hot.h"

#define BIG_SIZE (4u * 1024 * 1024) /* more than a pipe holds */

static struct gate_rig rig;
static int reader, other;

static void setup(void)
{
    gate_rig_prepare(&rig);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, 0, -1);
    gate_rig_start(&rig);
    reader = gate_rig_connect(&rig);
    other = gate_rig_connect(&rig);
}

static void teardown(void)
{
    fd_close(&reader);
    fd_close(&other);
    gate_rig_end(&rig);
}

static struct read_object object(const char *name, enum read_how how)
{
    struct read_object it = {.channel = GATE_RIG_CHANNEL, .by = READ_BY_NAME, .how = how};
    snprintf(it.name, sizeof it.name, "%s", name);
    return it;
}

static void path_of(const char *name, char ret[512])
{
    snprintf(ret, 512, "%s/%s", rig.channel, name);
}

/* ---- by descriptor ---- */

static const struct read_packet *lent(const struct read_object *wanted, const char *name)
{
    struct stat there, here;
    char path[512];
    struct read_packet *packet =
        gate_rig_ask(reader, READ_OBJECT, wanted, sizeof *wanted, READ_OBJECT_LENT);
    int fd = fd_take(&packet->fd);
    path_of(name, path);
    ck_assert_str_eq(packet->object_lent->about.name, name);
    ck_assert_int_eq(stat(path, &there), 0);
    ck_assert_int_eq(fstat(fd, &here), 0);
    ck_assert_uint_eq(here.st_ino, there.st_ino);
    ck_assert_uint_eq(packet->object_lent->id, there.st_ino);
    ck_assert_uint_eq(packet->object_lent->about.size, (uint64_t)there.st_size);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 0);
    ck_assert_int_eq(lseek(fd, 5, SEEK_SET), 5); /* nobody else's offset */
    fd_close(&fd);
    return packet;
}

static void refused(const struct read_object *wanted, int error)
{
    gate_rig_refused(reader, READ_OBJECT, wanted, sizeof *wanted, error);
}

START_TEST(by_name_number_and_end)
{
    char a[SEGMENT_NAME_SIZE], b[SEGMENT_NAME_SIZE], c[SEGMENT_NAME_SIZE];
    gate_rig_log(&rig, 100, 10, false, a);
    gate_rig_log(&rig, 110, 10, false, b);
    gate_rig_log(&rig, 130, 10, true, c);
    struct read_object wanted = object(b, READ_FDPASS);
    for (int i = 0; i < 3; i++) {
        const struct read_packet *packet = lent(&wanted, b);
        ck_assert_uint_eq(packet->object_lent->about.first_seq, 110);
        ck_assert_uint_eq(packet->object_lent->about.last_seq, 119);
        ck_assert_uint_eq(packet->object_lent->about.records, 10);
        ck_assert_uint_eq(packet->object_lent->about.is_open, 0);
    }
    wanted.by = READ_FIRST;
    lent(&wanted, a);
    wanted.by = READ_LAST;
    ck_assert_uint_eq(lent(&wanted, c)->object_lent->about.is_open, 1);
    wanted.by = READ_BY_SEQ;
    wanted.seq = 115;
    lent(&wanted, b);
    gate_rig_await(&rig, GATE_COUNTER_objects_lent, 6);
    wanted.seq = 125; /* lost between two files */
    refused(&wanted, ENOENT);
    wanted.seq = 99;
    refused(&wanted, ENOENT);
}
END_TEST

/* Asked for again, it takes no thread; and it is looked at again whether it is still that. */
START_TEST(what_is_hot_is_the_file_that_is_there)
{
    char name[SEGMENT_NAME_SIZE], again[SEGMENT_NAME_SIZE], path[512], moved[512];
    gate_rig_log(&rig, 100, 10, false, name);
    const struct read_object wanted = object(name, READ_FDPASS);
    lent(&wanted, name);
    lent(&wanted, name);
    int folder = open(rig.channel, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (gate_hot_is_local(folder))
        gate_rig_await(&rig, GATE_COUNTER_objects_at_once, 1);
    fd_close(&folder);
    path_of(name, path);
    path_of("kept", moved);
    ck_assert_int_eq(rename(path, moved), 0);
    refused(&wanted, ENOENT);
    ck_assert_int_eq(symlink("kept", path), 0); /* the same file, by a way that leads elsewhere */
    refused(&wanted, ELOOP);
    ck_assert_int_eq(unlink(path), 0);
    gate_rig_log(&rig, 100, 5, false, again);
    ck_assert_str_eq(again, name);
    ck_assert_uint_eq(lent(&wanted, name)->object_lent->about.records, 5);
}
END_TEST

START_TEST(an_open_one_is_found_as_what_it_was_sealed)
{
    char name[SEGMENT_NAME_SIZE], sealed[SEGMENT_NAME_SIZE], path[512], to[512];
    gate_rig_log(&rig, 100, 10, true, name);
    const struct read_object wanted = object(name, READ_FDPASS);
    lent(&wanted, name);
    snprintf(sealed, sizeof sealed, "%.*s", (int)(strlen(name) - strlen(".open")), name);
    path_of(name, path);
    path_of(sealed, to);
    ck_assert_int_eq(rename(path, to), 0);
    lent(&wanted, sealed);
}
END_TEST

/* ---- what the channel's memory says of an open one ---- */

static struct ring_fixture fixture;

static void lend_memory(const struct commit_progress *progress)
{
    const struct ring_fixture_settings settings = {.ring_size = 1 << 20, .max_datagram = 1400};
    ring_fixture_open(&fixture, &settings);
    channel_page_write_commit(fixture.ring.page, progress);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, 77, fixture.memory.ring);
    gate_rig_report(&rig);
}

/* A sealed file that has yet to get its name; both names. */
static void put_unnamed(char ret_open[SEGMENT_NAME_SIZE], char ret_sealed[SEGMENT_NAME_SIZE],
                        struct stat *ret)
{
    char path[512], to[512];
    gate_rig_log(&rig, 100, 10, false, ret_sealed);
    snprintf(ret_open, SEGMENT_NAME_SIZE, "%.100s.open", ret_sealed);
    path_of(ret_sealed, path);
    path_of(ret_open, to);
    ck_assert_int_eq(rename(path, to), 0);
    ck_assert_int_eq(stat(to, ret), 0);
}

START_TEST(what_is_sealed_in_all_but_its_name_is_handed_out_as_sealed)
{
    char open_name[SEGMENT_NAME_SIZE], sealed[SEGMENT_NAME_SIZE];
    struct stat status;
    put_unnamed(open_name, sealed, &status);
    lend_memory(&(struct commit_progress){.finished_id = status.st_ino,
                                          .finished_length = (uint64_t)status.st_size});
    const char *const names[] = {open_name, sealed};
    for (int i = 0; i < 2; i++) {
        struct read_object wanted = object(names[i], READ_FDPASS);
        struct read_packet *packet =
            gate_rig_ask(reader, READ_OBJECT, &wanted, sizeof wanted, READ_OBJECT_LENT);
        ck_assert_uint_eq(packet->object_lent->id, status.st_ino);
        ck_assert_uint_eq(packet->object_lent->about.is_open, 0);
        ck_assert_str_eq(packet->object_lent->about.name, sealed);
        wanted.how = READ_COPY;
        packet = gate_rig_ask(reader, READ_OBJECT, &wanted, sizeof wanted, READ_OBJECT_LENT);
        ck_assert_uint_eq(packet->object_lent->length, (uint64_t)status.st_size);
        gate_rig_answer(reader, READ_OBJECT_SENT);
    }
    ring_fixture_close(&fixture);
}
END_TEST

/* After a power cut a file may have totals, and not all that they tell of. */
START_TEST(totals_that_nobody_vouches_for_make_no_sealed_file)
{
    char open_name[SEGMENT_NAME_SIZE], sealed[SEGMENT_NAME_SIZE];
    struct stat status;
    put_unnamed(open_name, sealed, &status);
    lend_memory(&(struct commit_progress){.finished_id = status.st_ino,
                                          .finished_length = (uint64_t)status.st_size - 1});
    struct read_object wanted = object(open_name, READ_FDPASS);
    ck_assert_uint_eq(lent(&wanted, open_name)->object_lent->about.is_open, 1);
    wanted.how = READ_COPY;
    gate_rig_ask(reader, READ_OBJECT, &wanted, sizeof wanted, READ_OBJECT_LENT);
    ck_assert_int_eq(gate_rig_answer(reader, READ_OBJECT_SENT)->object_sent->error, EBUSY);
    wanted = object(sealed, READ_FDPASS);
    refused(&wanted, EAGAIN);
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(a_number_that_is_not_recorded_yet_is_in_no_file)
{
    char name[SEGMENT_NAME_SIZE], path[512];
    struct stat status;
    gate_rig_log(&rig, 100, 10, true, name);
    path_of(name, path);
    ck_assert_int_eq(stat(path, &status), 0);
    lend_memory(&(struct commit_progress){.segment_id = status.st_ino, .next_seq = 110});
    struct read_object wanted = object("", READ_FDPASS);
    wanted.by = READ_BY_SEQ;
    wanted.seq = 109;
    lent(&wanted, name);
    wanted.seq = 110;
    ck_assert_ptr_nonnull(strstr(
        gate_rig_ask(reader, READ_OBJECT, &wanted, sizeof wanted, READ_REFUSED)->refused->reason,
        "not recorded yet"));
    refused(&wanted, ENOENT);
    channel_page_write_commit(
        fixture.ring.page, &(struct commit_progress){.segment_id = status.st_ino, .next_seq = 111});
    lent(&wanted, name);
    name[strlen(name) - strlen(".open")] = '\0'; /* a name that it has yet to get */
    wanted = object(name, READ_FDPASS);
    refused(&wanted, ENOENT);
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(nothing_else_is_handed_out)
{
    static const char *const names[] = {
        "",
        "secret",
        "../secret",
        GATE_RIG_CHANNEL "-prepared-0000000000000001.avro.open",
        GATE_RIG_CHANNEL "-00000000000000000001-20251009T085320Z.avro.damaged",
        GATE_RIG_CHANNEL "-00000000000000000001-20251009T085320Z.avro/../secret",
        "other-00000000000000000001-20251009T085320Z.avro"};
    struct read_object wanted = object("x", READ_FDPASS);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i][0] && !strchr(names[i], '/'))
            log_maker_write(rig.channel, names[i], "x", 1);
        wanted = object(names[i], READ_FDPASS);
        refused(&wanted, EINVAL);
    }
    wanted = object(GATE_RIG_CHANNEL "-00000000000000000001-20251009T085320Z.avro", READ_FDPASS);
    refused(&wanted, ENOENT);
    wanted.how = READ_DESCRIBE + 1;
    refused(&wanted, EINVAL);
    wanted.how = READ_FDPASS;
    wanted.by = READ_BY_NAME + 1;
    refused(&wanted, EINVAL);
    wanted.by = READ_FIRST;
    refused(&wanted, ENOENT);
    snprintf(wanted.channel, sizeof wanted.channel, "nobody");
    refused(&wanted, ENOENT);
}
END_TEST

/* ---- as bytes ---- */

/* A file that has a log's name, of bytes that are known. */
static void put_big(char ret_name[SEGMENT_NAME_SIZE], uint8_t **ret_bytes)
{
    uint64_t state = 7;
    uint8_t *bytes = malloc(BIG_SIZE);
    snprintf(ret_name, SEGMENT_NAME_SIZE, "%s",
             GATE_RIG_CHANNEL "-00000000000000000001-20251009T085320Z.avro");
    for (size_t i = 0; i < BIG_SIZE; i += sizeof state) {
        uint64_t word = log_maker_random(&state) | 0x0101010101010101; /* no byte is zero */
        memcpy(bytes + i, &word, sizeof word);
    }
    log_maker_write(rig.channel, ret_name, bytes, BIG_SIZE);
    *ret_bytes = bytes;
}

/* Asks, and takes the pipe. */
static int begin(int who, const struct read_object *wanted)
{
    struct read_packet *packet =
        gate_rig_ask(who, READ_OBJECT, wanted, sizeof *wanted, READ_OBJECT_LENT);
    return fd_take(&packet->fd);
}

/* Up to its end, or as much as is wanted; how much it was. */
static size_t drain(int pipe, uint8_t *bytes, size_t most)
{
    size_t size = 0;
    while (size < most) {
        struct pollfd readable = {.fd = pipe, .events = POLLIN};
        ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
        ssize_t length = read(pipe, bytes + size, most - size);
        if (length < 0 && errno == EAGAIN)
            continue;
        ck_assert_int_ge(length, 0);
        if (length == 0)
            break;
        size += (size_t)length;
    }
    return size;
}

static void expect_sent(int who, uint64_t bytes, int error)
{
    const struct read_object_sent *sent = gate_rig_answer(who, READ_OBJECT_SENT)->object_sent;
    ck_assert_int_eq(sent->error, error);
    if (error == 0)
        ck_assert_uint_eq(sent->bytes, bytes);
}

static const enum read_how hows[] = {READ_COPY, READ_SPLICE};

START_TEST(all_bytes_or_some)
{
    static const struct {
        uint64_t offset, length, expected;
    } parts[] = {{0, 0, BIG_SIZE},
                 {0, 1, 1},
                 {BIG_SIZE, 0, 0},
                 {BIG_SIZE - 1, 100, 1},
                 {4097, 65536, 65536},
                 {1, UINT64_MAX, BIG_SIZE - 1},
                 {BIG_SIZE / 2, 0, BIG_SIZE / 2}};
    char name[SEGMENT_NAME_SIZE];
    uint8_t *bytes, *came = malloc(BIG_SIZE + 1);
    put_big(name, &bytes);
    struct read_object wanted = object(name, hows[_i]);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        wanted.offset = parts[i].offset;
        wanted.length = parts[i].length;
        int pipe = begin(reader, &wanted);
        ck_assert_uint_eq(drain(pipe, came, BIG_SIZE + 1), parts[i].expected);
        ck_assert_int_eq(memcmp(came, bytes + parts[i].offset, parts[i].expected), 0);
        expect_sent(reader, parts[i].expected, 0);
        fd_close(&pipe);
    }
    wanted.offset = BIG_SIZE + 1;
    refused(&wanted, EINVAL);
    free(bytes);
    free(came);
}
END_TEST

/* What it is sent comes as it takes it; others are served meanwhile, and what it asks for besides
 * waits its turn. */
START_TEST(a_slow_reader_keeps_nobody_waiting)
{
    char name[SEGMENT_NAME_SIZE];
    uint8_t *bytes, *came = malloc(BIG_SIZE);
    put_big(name, &bytes);
    const struct read_object wanted = object(name, hows[_i]), by_fd = object(name, READ_FDPASS);
    int pipe = begin(other, &wanted);
    gate_rig_request(other, READ_OBJECT, 9, &by_fd, sizeof by_fd);
    for (int i = 0; i < 20; i++)
        lent(&by_fd, name);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0); /* no thread has it any more */
    for (size_t at = 0; at < BIG_SIZE; at += BIG_SIZE / 4)
        ck_assert_uint_eq(drain(pipe, came + at, BIG_SIZE / 4), BIG_SIZE / 4);
    ck_assert_int_eq(memcmp(came, bytes, BIG_SIZE), 0);
    expect_sent(other, BIG_SIZE, 0);
    ck_assert_uint_eq(gate_rig_answer(other, READ_OBJECT_LENT)->header.request, 9);
    fd_close(&pipe);
    free(bytes);
    free(came);
}
END_TEST

START_TEST(who_goes_away_leaves_nothing_behind)
{
    char name[SEGMENT_NAME_SIZE];
    uint8_t *bytes;
    put_big(name, &bytes);
    const struct read_object wanted = object(name, hows[_i]);
    gate_rig_ask(reader, READ_OBJECT, &wanted, sizeof wanted, READ_OBJECT_LENT);
    int fds = 0;
    for (int i = 0; i < 10; i++) {
        int gone = gate_rig_connect(&rig);
        int pipe = begin(gone, &wanted);
        if (i % 2)
            gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
        fd_close(&gone);
        fd_close(&pipe);
        gate_rig_await(&rig, GATE_COUNTER_connections, 2);
        gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
        if (i == 1)
            fds = gate_rig_fds(&rig);
    }
    gate_rig_await_fds(&rig, fds);
    int pipe = begin(other, &wanted); /* it closes the pipe alone */
    fd_close(&pipe);
    expect_sent(other, 0, EPIPE);
    gate_rig_quiet(other);
    free(bytes);
}
END_TEST

/* The archive gives its space back at once: zeros would come from there. */
START_TEST(what_is_removed_is_never_zeros)
{
    char name[SEGMENT_NAME_SIZE], path[512];
    uint8_t *bytes, *came = malloc(BIG_SIZE);
    put_big(name, &bytes);
    const struct read_object wanted = object(name, hows[_i]);
    int pipe = begin(reader, &wanted);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0); /* the pipe is full */
    path_of(name, path);
    int file = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(
        fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)BIG_SIZE), 0);
    fd_close(&file);
    const size_t size = drain(pipe, came, BIG_SIZE);
    ck_assert_uint_lt(size, BIG_SIZE);
    ck_assert_int_eq(memcmp(came, bytes, size), 0);
    expect_sent(reader, size, ESTALE);
    fd_close(&pipe);
    refused(&wanted, ENOENT);
    free(bytes);
    free(came);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gate_objects");
    TCase *tests = tcase_create("gate_objects");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, by_name_number_and_end);
    tcase_add_test(tests, what_is_hot_is_the_file_that_is_there);
    tcase_add_test(tests, an_open_one_is_found_as_what_it_was_sealed);
    tcase_add_test(tests, what_is_sealed_in_all_but_its_name_is_handed_out_as_sealed);
    tcase_add_test(tests, totals_that_nobody_vouches_for_make_no_sealed_file);
    tcase_add_test(tests, a_number_that_is_not_recorded_yet_is_in_no_file);
    tcase_add_test(tests, nothing_else_is_handed_out);
    tcase_add_loop_test(tests, all_bytes_or_some, 0, 2);
    tcase_add_loop_test(tests, a_slow_reader_keeps_nobody_waiting, 0, 2);
    tcase_add_loop_test(tests, who_goes_away_leaves_nothing_behind, 0, 2);
    tcase_add_loop_test(tests, what_is_removed_is_never_zeros, 0, 2);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
