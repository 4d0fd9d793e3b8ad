/* SPDX-License-Identifier: MIT */
/* Records by their numbers from a real gate: by descriptors, and as one file out of a pipe; also of
 * a file that is being written. Who reads slowly keeps nobody waiting, and nothing leaks. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_scan.h"
#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/gate_rig.h"
#include "tests/lib/unit.h"
#include "worker/gate/gate_range.h"

#define RING 77

static struct gate_rig rig;
static struct ring_fixture fixture;
static int reader, other;
static hf *handle;
static char names[3][SEGMENT_NAME_SIZE];

static void setup(void)
{
    const struct ring_fixture_settings settings = {.ring_size = 1 << 20, .max_datagram = 1400};
    ring_fixture_open(&fixture, &settings);
    gate_rig_prepare(&rig);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, RING, fixture.memory.ring);
    gate_rig_log(&rig, 100, 100, false, names[0]);
    gate_rig_log(&rig, 200, 100, false, names[1]);
    gate_rig_start(&rig);
    reader = gate_rig_connect(&rig);
    other = gate_rig_connect(&rig);
    ck_assert_int_eq(hf_open(&handle, rig.socket_path), 0);
}

static void teardown(void)
{
    hf_close(handle);
    fd_close(&reader);
    fd_close(&other);
    gate_rig_end(&rig);
    ring_fixture_close(&fixture);
}

static struct read_range range(uint64_t first, uint64_t last, enum read_how how)
{
    return (struct read_range){.channel = GATE_RIG_CHANNEL,
                               .first = first,
                               .last = last,
                               .how = how,
                               .by = READ_BY_SEQ,
                               .seq = first};
}

static void refused(const struct read_range *wanted, int error)
{
    gate_rig_refused(reader, READ_RANGE, wanted, sizeof *wanted, error);
}

static void copy(const char *name, unsigned how, uint64_t first, uint64_t last)
{
    const struct avro_log_scan_options options = {.seq_end = UINT64_MAX};
    struct avro_log_summary summary;
    struct hf_log_range told;
    int fd = memfd_create("range", MFD_CLOEXEC);
    int64_t bytes = hf_log_copy(handle, GATE_RIG_CHANNEL, name, fd, 0, 0, how);
    ck_assert_msg(bytes > 0, "%s by %u: %ld", name, how, (long)bytes);
    ck_assert_int_eq(bytes, lseek(fd, 0, SEEK_END));
    ck_assert_int_eq(avro_log_scan(fd, &options, NULL, &summary), 0);
    ck_assert_uint_eq(summary.faults, 0);
    ck_assert_uint_eq(summary.missing, 0);
    ck_assert_uint_eq(summary.first_seq, first);
    ck_assert_uint_eq(summary.last_seq, last);
    ck_assert_int_eq(hf_log_copied(handle, &told), 0);
    ck_assert_uint_eq(told.first_seq, first);
    ck_assert_uint_eq(told.last_seq, last);
    ck_assert_uint_eq(told.records, last - first + 1);
    fd_close(&fd);
}

START_TEST(by_piece)
{
    struct read_range wanted = range(150, 250, READ_FDPASS);
    struct stat there, here;
    char path[600];
    for (int i = 0; i < 2; i++) {
        struct read_packet *packet =
            gate_rig_ask(reader, READ_RANGE, &wanted, sizeof wanted, READ_RANGE_LENT);
        const struct read_range_lent *lent = packet->range_lent;
        snprintf(path, sizeof path, "%s/%s", rig.channel, names[i]);
        ck_assert_str_eq(lent->about.name, names[i]);
        ck_assert_int_eq(stat(path, &there), 0);
        ck_assert_int_eq(fstat(packet->fd, &here), 0);
        ck_assert_uint_eq(here.st_ino, there.st_ino);
        ck_assert_uint_le(lent->offset + lent->length, (uint64_t)there.st_size);
        ck_assert_uint_ge(lent->offset, lent->header_length);
        ck_assert_uint_eq(lent->next_first_seq, i == 0 ? 200 : UINT64_MAX);
        wanted.by = READ_AFTER;
        wanted.seq = lent->about.first_seq;
    }
    refused(&wanted, ENOENT);
}
END_TEST

START_TEST(by_each_way)
{
    for (unsigned how = HF_BY_FD; how <= HF_BY_SPLICE; how++) {
        copy("seq:150..250", how, 150, 250);
        copy("seq:100..100", how, 100, 100);
        copy("seq:0..199", how, 100, 199);
        copy("seq:299..5000", how, 299, 299);
        ck_assert_int_eq(hf_log_copy(handle, GATE_RIG_CHANNEL, "seq:300..400", 1, 0, 0, how),
                         -ENOENT);
    }
}
END_TEST

/* What is committed, and nothing else, however sound it looks. */
START_TEST(of_one_that_is_being_written)
{
    struct commit_progress commit = {0};
    struct avro_log_summary summary;
    struct stat status;
    char path[600];
    gate_rig_log(&rig, 300, 50, true, names[2]);
    snprintf(path, sizeof path, "%s/%s", rig.channel, names[2]);
    ck_assert_int_eq(stat(path, &status), 0);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    const struct avro_log_scan_options options = {.open = true, .seq_end = UINT64_MAX};
    ck_assert_int_eq(avro_log_scan(file, &options, NULL, &summary), 0);
    fd_close(&file);
    const struct read_range unknown = range(310, 320, READ_COPY);
    refused(&unknown, EAGAIN);
    copy("seq:290..320", HF_BY_COPY, 290, 299); /* told, not guessed */
    commit.segment_id = status.st_ino;
    commit.segment_first_seq = 300;
    commit.block_start = summary.header_size;
    commit.write_offset = avro_log_block_end(&summary.last_block);
    commit.next_seq = 350;
    channel_page_write_commit(fixture.ring.page, &commit);
    copy("seq:290..320", HF_BY_COPY, 290, 320);
    copy("seq:340..400", HF_BY_COPY, 340, 349);
    copy("seq:290..320", HF_BY_FD, 290, 299); /* it has no finished block yet */
    commit.block_start = commit.write_offset + AVRO_LOG_SYNC_SIZE;
    commit.write_offset = commit.block_start + AVRO_LOG_BLOCK_HEADER_SIZE;
    channel_page_write_commit(fixture.ring.page, &commit);
    copy("seq:290..320", HF_BY_FD, 290, 320);
}
END_TEST

START_TEST(nothing_else)
{
    struct read_range wanted = range(5, 4, READ_COPY);
    refused(&wanted, EINVAL);
    wanted = range(100, 100, READ_SPLICE + 1);
    refused(&wanted, EINVAL);
    wanted = range(100, 100, 0);
    refused(&wanted, EINVAL);
    wanted = range(100, 100, READ_FDPASS);
    wanted.by = READ_FIRST;
    refused(&wanted, EINVAL);
    wanted = range(0, 99, READ_FDPASS);
    refused(&wanted, ENOENT);
    wanted = range(0, 99, READ_COPY);
    refused(&wanted, ENOENT);
    wanted = range(0, UINT64_MAX, READ_COPY);
    snprintf(wanted.channel, sizeof wanted.channel, "nobody");
    refused(&wanted, ENOENT);
}
END_TEST

/* More than a pipe holds: so they wait in it, and no thread has them. */
START_TEST(slow_ones_and_those_that_go_away)
{
    char name[SEGMENT_NAME_SIZE];
    int fds = 0;
    for (int i = 0; i < 30; i++)
        gate_rig_log(&rig, 1000 + 100 * (uint64_t)i, 100, false, name);
    const struct read_range wanted = range(1000, 9000, READ_COPY);
    for (int i = 0; i < 6; i++) {
        int gone = gate_rig_connect(&rig);
        struct read_packet *packet =
            gate_rig_ask(gone, READ_RANGE, &wanted, sizeof wanted, READ_RANGE_LENT);
        int pipe = fd_take(&packet->fd);
        gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
        copy("seq:150..250", HF_BY_COPY, 150, 250); /* others are served meanwhile */
        if (i % 2)
            fd_close(&pipe);
        fd_close(&gone);
        fd_close(&pipe);
        gate_rig_await(&rig, GATE_COUNTER_connections, 3);
        gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
        if (i == 1)
            fds = gate_rig_fds(&rig);
    }
    gate_rig_await_fds(&rig, fds);
}
END_TEST

/* Each takes memory: so one user has only so many. */
START_TEST(not_too_many)
{
    char made[SEGMENT_NAME_SIZE];
    int readers[GATE_RANGES_MOST / 4], pipes[GATE_RANGES_MOST / 4];
    for (int i = 0; i < 30; i++)
        gate_rig_log(&rig, 1000 + 100 * (uint64_t)i, 100, false, made);
    const struct read_range wanted = range(1000, 9000, READ_COPY);
    for (int i = 0; i < GATE_RANGES_MOST / 4; i++) {
        readers[i] = gate_rig_connect(&rig);
        pipes[i] = fd_take(
            &gate_rig_ask(readers[i], READ_RANGE, &wanted, sizeof wanted, READ_RANGE_LENT)->fd);
        gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
        struct pollfd sent = {.fd = readers[i], .events = POLLIN};
        ck_assert_int_eq(poll(&sent, 1, 0), 0); /* its pipe is full */
    }
    refused(&wanted, EBUSY);
    const struct read_range piece = range(1000, 9000, READ_FDPASS);
    gate_rig_ask(reader, READ_RANGE, &piece, sizeof piece, READ_RANGE_LENT);
    for (int i = 0; i < GATE_RANGES_MOST / 4; i++) {
        fd_close(&pipes[i]);
        ck_assert_int_eq(gate_rig_answer(readers[i], READ_RANGE_SENT)->range_sent->error, EPIPE);
        fd_close(&readers[i]);
    }
    copy("seq:1000..3999", HF_BY_COPY, 1000, 3999);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gate_ranges");
    TCase *tests = tcase_create("gate_ranges");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, by_piece);
    tcase_add_test(tests, by_each_way);
    tcase_add_test(tests, of_one_that_is_being_written);
    tcase_add_test(tests, nothing_else);
    tcase_add_test(tests, not_too_many);
    tcase_add_test(tests, slow_ones_and_those_that_go_away);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
