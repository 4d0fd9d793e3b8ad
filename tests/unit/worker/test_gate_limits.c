/* SPDX-License-Identifier: MIT */
/* What readers may have of the gate. The story: each limit that is reached is told, by its key, and
 * nothing else of that connection suffers; who sleeps on purpose is not idle; what no thread can do
 * is given up; and at the end what was accepted is answered, and a file that is cut off is never
 * taken for whole. Counts and durations of all of it are reported. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/gate_histogram.h"
#include "common/monotonic.h"
#include "tests/lib/gate_rig.h"
#include "tests/lib/unit.h"
#include "worker/gate/gate_transfer.h"

#define BIG_SIZE ((size_t)3 << 20)

static struct gate_rig rig;
static char name[SEGMENT_NAME_SIZE], big[SEGMENT_NAME_SIZE];

static void setup(void)
{
    gate_rig_prepare(&rig);
}

static void start(void)
{
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, 1, -1);
    gate_rig_log(&rig, 100, 10, false, name);
    uint8_t *bytes = calloc(1, BIG_SIZE);
    snprintf(big, sizeof big, "%s", GATE_RIG_CHANNEL "-00000000000000000001-20251009T085320Z.avro");
    log_maker_write(rig.channel, big, bytes, BIG_SIZE);
    free(bytes);
    gate_rig_start(&rig);
}

static void teardown(void)
{
    gate_rig_end(&rig);
}

static struct read_object object(const char *which, enum read_how how)
{
    struct read_object wanted = {.channel = GATE_RIG_CHANNEL, .by = READ_BY_NAME, .how = how};
    snprintf(wanted.name, sizeof wanted.name, "%s", which);
    return wanted;
}

/* The next packet refuses this request, for a reason that begins so. */
static void expect_refused(int reader, uint32_t request, int error, const char *reason)
{
    const struct read_packet *packet = gate_rig_answer(reader, READ_REFUSED);
    ck_assert_uint_eq(packet->header.request, request);
    ck_assert_msg(packet->refused->error == error &&
                      strncmp(packet->refused->reason, reason, strlen(reason)) == 0,
                  "%s: %s", strerror(packet->refused->error), packet->refused->reason);
}

static void hello(int reader, uint32_t request)
{
    const struct read_hello said = {"limits"};
    gate_rig_request(reader, READ_HELLO, request, &said, sizeof said);
}

static int begin_sending(int reader, enum read_how how)
{
    const struct read_object wanted = object(big, how);
    return fd_take(
        &gate_rig_ask(reader, READ_OBJECT, &wanted, sizeof wanted, READ_OBJECT_LENT)->fd);
}

/* ---- connections and requests ---- */

START_TEST(connections_are_counted_for_all_and_for_each_user)
{
    int readers[6];
    rig.limits.connections = 5;
    rig.limits.connections_per_user = 3;
    start();
    for (int i = 0; i < 3; i++) {
        readers[i] = gate_rig_connect(&rig);
        gate_rig_quiet(readers[i]);
    }
    readers[3] = gate_rig_connect(&rig);
    expect_refused(readers[3], 0, EBUSY, "connections_per_user = 3: ");
    gate_rig_expect_end(readers[3]);
    rig.limits.connections_per_user = 1000; /* as it is by now */
    rig.limits.connections = 2;
    gate_rig_limit(&rig);
    fd_close_all(readers, 4);
    gate_rig_await(&rig, GATE_COUNTER_connections, 0);
    int many[2 + 16 + 1]; /* the daemon's own user has a few more */
    for (int i = 0; i < 2 + 16; i++) {
        many[i] = gate_rig_connect(&rig);
        gate_rig_quiet(many[i]);
    }
    many[2 + 16] = gate_rig_connect(&rig);
    expect_refused(many[2 + 16], 0, EBUSY, "connections = 2: ");
    fd_close_all(many, 2 + 16 + 1);
}
END_TEST

START_TEST(who_asks_too_often_is_told_so)
{
    rig.limits.requests_per_second = 5;
    start();
    int reader = gate_rig_connect(&rig), other = gate_rig_connect(&rig);
    unsigned welcome = 0, refused = 0;
    for (uint32_t i = 1; i <= 15; i++)
        hello(reader, i);
    for (uint32_t i = 1; i <= 15; i++) {
        struct pollfd readable = {.fd = reader, .events = POLLIN};
        static struct read_packet packet;
        const char *what;
        ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
        ck_assert_int_eq(read_packet_receive(reader, TO_READER, &packet, &what), 1);
        ck_assert_uint_eq(packet.header.request, i); /* in order, and each of them */
        welcome += packet.header.type == READ_WELCOME;
        if (packet.header.type == READ_REFUSED) {
            refused++;
            ck_assert_int_eq(packet.refused->error, EBUSY);
            ck_assert_ptr_nonnull(strstr(packet.refused->reason, "requests_per_second = 5: "));
        }
    }
    ck_assert_uint_ge(welcome, 5);
    ck_assert_uint_ge(refused, 1);
    gate_rig_quiet(other); /* others are others */
    ck_assert_uint_ge(gate_rig_report(&rig)->value[GATE_COUNTER_requests_refused], refused);
    fd_close(&reader);
    fd_close(&other);
}
END_TEST

START_TEST(a_connection_ends_after_so_many_requests)
{
    rig.limits.requests_per_connection = 3;
    start();
    int reader = gate_rig_connect(&rig);
    for (int i = 0; i < 3; i++)
        gate_rig_quiet(reader);
    hello(reader, 9);
    expect_refused(reader, 0, EDQUOT, "requests_per_connection = 3: ");
    gate_rig_expect_end(reader);
    fd_close(&reader);
    gate_rig_await(&rig, GATE_COUNTER_ended_idle, 1);
    reader = gate_rig_connect(&rig);
    gate_rig_quiet(reader);
    fd_close(&reader);
}
END_TEST

START_TEST(descriptors_under_way_are_counted_for_each_user)
{
    rig.limits.lent_per_user = 2;
    start();
    const struct read_object wanted = object(name, READ_FDPASS);
    int reader = gate_rig_connect(&rig), other = gate_rig_connect(&rig);
    for (uint32_t i = 1; i <= 3; i++) /* and nothing is received meanwhile */
        gate_rig_request(reader, READ_OBJECT, i, &wanted, sizeof wanted);
    gate_rig_await(&rig, GATE_COUNTER_requests, 3);
    gate_rig_request(other, READ_OBJECT, 7, &wanted, sizeof wanted);
    expect_refused(other, 7, EBUSY, "lent_per_user = 2: ");
    gate_rig_answer(reader, READ_OBJECT_LENT);
    gate_rig_answer(reader, READ_OBJECT_LENT);
    expect_refused(reader, 3, EBUSY, "lent_per_user = 2: ");
    /* All were received by now, which is seen when it matters, if not at once. */
    for (bool lent = false; !lent;) {
        struct pollfd readable = {.fd = other, .events = POLLIN};
        static struct read_packet packet;
        const char *what;
        gate_rig_request(other, READ_OBJECT, 8, &wanted, sizeof wanted);
        ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
        ck_assert_int_eq(read_packet_receive(other, TO_READER, &packet, &what), 1);
        lent = packet.header.type == READ_OBJECT_LENT;
        read_packet_release(&packet);
    }
    fd_close(&reader);
    fd_close(&other);
    gate_rig_await(&rig, GATE_COUNTER_lent_under_way, 0);
}
END_TEST

/* Its own half of the connection is closed, the gate's is, too, and what was sent lies there. */
START_TEST(descriptors_under_way_count_when_their_connection_has_ended)
{
    enum { MANY = 6, EACH = 5, MOST = 12 };
    const struct timespec pause = {.tv_nsec = 20 * NS_PER_MS};
    int readers[MANY];
    unsigned brought = 0;
    rig.limits.lent_per_user = MOST;
    start();
    const struct read_object wanted = object(name, READ_FDPASS);
    for (int i = 0; i < MANY; i++) {
        readers[i] = gate_rig_connect(&rig);
        for (uint32_t number = 1; number <= EACH; number++)
            gate_rig_request(readers[i], READ_OBJECT, number, &wanted, sizeof wanted);
        gate_rig_await(&rig, GATE_COUNTER_requests, (uint64_t)EACH * ((uint64_t)i + 1));
        shutdown(readers[i], SHUT_WR);
        gate_rig_report(&rig);
        nanosleep(&pause, NULL);
    }
    ck_assert_uint_le(gate_rig_report(&rig)->value[GATE_COUNTER_lent_under_way], MOST);
    for (int i = 0; i < MANY; i++) {
        static struct read_packet packet;
        const char *what;
        struct pollfd readable = {.fd = readers[i], .events = POLLIN};
        while (poll(&readable, 1, GATE_RIG_DEADLINE_MS) == 1 &&
               read_packet_receive(readers[i], TO_READER, &packet, &what) == 1) {
            brought += packet.fd_count;
            read_packet_release(&packet);
        }
    }
    ck_assert_uint_le(brought, MOST);
    gate_rig_await(&rig, GATE_COUNTER_lent_under_way, 0); /* all were received */
    gate_rig_await(&rig, GATE_COUNTER_connections, 0);
    fd_close_all(readers, MANY);
}
END_TEST

START_TEST(bytes_that_are_being_sent_are_counted_for_each_user)
{
    rig.limits.sending_per_user = BIG_SIZE + 1;
    start();
    const struct read_object wanted = object(big, READ_COPY);
    int reader = gate_rig_connect(&rig), other = gate_rig_connect(&rig);
    int pipe = begin_sending(reader, READ_COPY);
    gate_rig_request(other, READ_OBJECT, 7, &wanted, sizeof wanted);
    expect_refused(other, 7, EBUSY, "sending_per_user = 3145729: ");
    fd_close(&pipe);
    gate_rig_answer(reader, READ_OBJECT_SENT);
    rig.limits.sending_per_user = 64 * 1024; /* one file at a time is always sent */
    gate_rig_limit(&rig);
    pipe = begin_sending(other, READ_COPY);
    fd_close(&pipe);
    fd_close(&reader);
    fd_close(&other);
}
END_TEST

/* ---- time ---- */

START_TEST(who_is_idle_is_told_and_ends)
{
    const struct read_arm arm = {.what = READ_FOR_COMMITTED, .seq = INT64_MAX};
    rig.limits.idle_timeout_ns = 200 * NS_PER_MS;
    start();
    int idle = gate_rig_connect(&rig), sleeper = gate_rig_connect(&rig),
        sending = gate_rig_connect(&rig);
    gate_rig_attach(sleeper, GATE_RIG_CHANNEL, HF_NEW);
    gate_rig_request(sleeper, READ_ARM, 0, &arm, sizeof arm);
    int pipe = begin_sending(sending, READ_COPY);
    gate_rig_quiet(idle);
    expect_refused(idle, 0, ETIMEDOUT, "idle_timeout = 200ms: ");
    gate_rig_expect_end(idle);
    int another = gate_rig_connect(&rig); /* which never says a word */
    expect_refused(another, 0, ETIMEDOUT, "idle_timeout = 200ms: ");
    gate_rig_quiet(sleeper);
    gate_rig_await(&rig, GATE_COUNTER_connections, 2);
    fd_close(&pipe);
    gate_rig_answer(sending, READ_OBJECT_SENT);
    expect_refused(sending, 0, ETIMEDOUT, "idle_timeout = 200ms: ");
    gate_rig_quiet(sleeper);
    gate_rig_await(&rig, GATE_COUNTER_ended_idle, 3);
    fd_close(&idle);
    fd_close(&another);
    fd_close(&sleeper);
    fd_close(&sending);
}
END_TEST

static const enum read_how hows[] = {READ_COPY, READ_SPLICE};

START_TEST(who_takes_nothing_of_a_file_gets_no_more)
{
    rig.limits.request_timeout_ns = 200 * NS_PER_MS;
    start();
    int reader = gate_rig_connect(&rig);
    int pipe = begin_sending(reader, hows[_i]);
    const struct read_object_sent *sent = gate_rig_answer(reader, READ_OBJECT_SENT)->object_sent;
    ck_assert_int_eq(sent->error, ETIMEDOUT);
    ck_assert_uint_lt(sent->bytes, BIG_SIZE);
    gate_rig_quiet(reader);
    fd_close(&pipe);
    fd_close(&reader);
    gate_rig_await(&rig, GATE_COUNTER_requests_expired, 1);
}
END_TEST

/* One waits at the thread, and so many behind it. */
START_TEST(the_queue_is_as_long_as_is_said)
{
    const struct read_list_segments wanted = {.channel = GATE_RIG_CHANNEL};
    int waiting[8], count = 0;
    rig.limits.queue = 2;
    start();
    int held = gate_rig_hold_up(rig.channel);
    for (;; count++) {
        ck_assert_int_lt(count, 8);
        struct pollfd readable = {.fd = waiting[count] = gate_rig_connect(&rig), .events = POLLIN};
        gate_rig_request(waiting[count], READ_SEGMENTS, 1, &wanted, sizeof wanted);
        bool refused = false, waits = false;
        while (!refused && !waits) {
            refused = poll(&readable, 1, 10) == 1;
            waits = gate_rig_report(&rig)->value[GATE_COUNTER_waiting] == (uint64_t)count + 1;
        }
        if (refused)
            break;
    }
    expect_refused(waiting[count], 1, EBUSY, "queue = 2: ");
    ck_assert_uint_eq(gate_rig_report(&rig)->value[GATE_COUNTER_queued_most], 2);
    ck_assert_uint_ge(gate_rig_report(&rig)->value[GATE_COUNTER_threads_busy], 1);
    fd_close(&held);
    for (int i = 0; i < count; i++)
        gate_rig_answer(waiting[i], READ_SEGMENT_LIST);
    fd_close_all(waiting, (size_t)count + 1);
}
END_TEST

/* What a thread comes back with is let go of then, and is none of what was asked meanwhile. */
START_TEST(a_disk_that_does_not_answer_is_not_waited_for)
{
    const struct read_list_segments wanted = {.channel = GATE_RIG_CHANNEL};
    rig.limits.request_timeout_ns = 200 * NS_PER_MS;
    start();
    int reader = gate_rig_connect(&rig), fds = 0;
    gate_rig_quiet(reader);
    fds = gate_rig_fds(&rig);
    int held = gate_rig_hold_up(rig.channel);
    for (uint32_t i = 1; i <= 4; i++) {
        if (i % 2) {
            const struct read_object by_copy = object(big, READ_COPY);
            gate_rig_request(reader, READ_OBJECT, i, &by_copy, sizeof by_copy);
        } else {
            gate_rig_request(reader, READ_SEGMENTS, i, &wanted, sizeof wanted);
        }
        expect_refused(reader, i, ETIMEDOUT, "request_timeout = 200ms: ");
        gate_rig_quiet(reader);
    }
    gate_rig_await(&rig, GATE_COUNTER_requests_expired, 4);
    fd_close(&held);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
    gate_rig_ask(reader, READ_SEGMENTS, &wanted, sizeof wanted, READ_SEGMENT_LIST);
    gate_rig_await_fds(&rig, fds);
    fd_close(&reader);
}
END_TEST

/* What waits behind a request that was given up begins then, and is given up in its turn. */
START_TEST(what_waits_behind_is_not_waited_for_either)
{
    const struct read_list_segments wanted = {.channel = GATE_RIG_CHANNEL};
    rig.limits.request_timeout_ns = 200 * NS_PER_MS;
    start();
    int reader = gate_rig_connect(&rig);
    int held = gate_rig_hold_up(rig.channel);
    for (uint32_t i = 1; i <= 3; i++)
        gate_rig_request(reader, READ_SEGMENTS, i, &wanted, sizeof wanted);
    for (uint32_t i = 1; i <= 3; i++)
        expect_refused(reader, i, ETIMEDOUT, "request_timeout = 200ms: ");
    fd_close(&held);
    fd_close(&reader);
}
END_TEST

static pid_t read_slowly(int pipe)
{
    static char bytes[65536];
    const struct timespec pause = {.tv_nsec = 2 * NS_PER_MS};
    pid_t pid = fork();
    if (pid)
        return pid;
    while (read(pipe, bytes, sizeof bytes) > 0)
        nanosleep(&pause, NULL);
    _exit(0);
}

/* Always in time for the thread to wait for him, he would have it for as long as his file lasts. */
START_TEST(a_slow_reader_does_not_keep_a_thread)
{
    const off_t size = (off_t)256 << 20;
    char path[512];
    int ends[2], result = -EAGAIN;
    snprintf(path, sizeof path, "%s/slow", rig.channel);
    struct gate_transfer transfer = {.how = hows[_i], .between = {-1, -1}, .end = (uint64_t)size};
    transfer.file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert(transfer.file >= 0 && ftruncate(transfer.file, size) == 0);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(transfer.between, O_CLOEXEC | O_NONBLOCK), 0);
    pid_t reader = read_slowly(ends[0]);
    fd_close(&ends[0]);
    transfer.pipe = ends[1];
    ck_assert_int_eq(fd_set_nonblocking(transfer.pipe), 0);
    while (result == -EAGAIN) { /* he was late: it is epoll that waits then */
        struct pollfd writable = {.fd = transfer.pipe, .events = POLLOUT};
        ck_assert_int_eq(poll(&writable, 1, GATE_RIG_DEADLINE_MS), 1);
        result = gate_transfer_run(&transfer);
    }
    ck_assert_int_eq(result, 1); /* somebody else may have the thread */
    kill(reader, SIGKILL);
    waitpid(reader, NULL, 0);
    fd_close(&transfer.pipe);
    fd_close(&transfer.file);
    fd_close_all(transfer.between, 2);
    gate_rig_start(&rig); /* that there is one to end */
}
END_TEST

/* ---- what is reported ---- */

START_TEST(what_was_sent_counts_when_its_reader_has_gone)
{
    static char bytes[65536];
    start();
    int reader = gate_rig_connect(&rig);
    int pipe = begin_sending(reader, hows[_i]);
    size_t size = 0;
    while (size < BIG_SIZE / 2) {
        struct pollfd readable = {.fd = pipe, .events = POLLIN};
        ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
        ssize_t length = read(pipe, bytes, sizeof bytes);
        size += length > 0 ? (size_t)length : 0;
    }
    fd_close(&reader);
    fd_close(&pipe);
    gate_rig_await(&rig, GATE_COUNTER_connections, 0);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
    const struct message_gate_report *report = gate_rig_report(&rig);
    ck_assert_uint_ge(report->value[GATE_COUNTER_sent_bytes], size);
    ck_assert_uint_lt(report->value[GATE_COUNTER_sent_bytes], BIG_SIZE);
    ck_assert_uint_eq(report->bytes[_i == 0 ? GATE_MODE_COPY : GATE_MODE_SPLICE],
                      report->value[GATE_COUNTER_sent_bytes]);
}
END_TEST

START_TEST(requests_are_measured_by_mode)
{
    start();
    const struct read_object wanted = object(name, READ_FDPASS), copied = object(name, READ_COPY);
    struct stat status;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", rig.channel, name);
    ck_assert_int_eq(stat(path, &status), 0);
    int reader = gate_rig_connect(&rig);
    for (int i = 0; i < 10; i++)
        gate_rig_ask(reader, READ_OBJECT, &wanted, sizeof wanted, READ_OBJECT_LENT);
    int pipe =
        fd_take(&gate_rig_ask(reader, READ_OBJECT, &copied, sizeof copied, READ_OBJECT_LENT)->fd);
    ck_assert_int_eq(gate_rig_answer(reader, READ_OBJECT_SENT)->object_sent->error, 0);
    gate_rig_quiet(reader);
    const struct message_gate_report *report = gate_rig_report(&rig);
    ck_assert_uint_eq(report->latency[GATE_MODE_FD].count, 10);
    ck_assert_uint_eq(report->bytes[GATE_MODE_FD], 10 * (uint64_t)status.st_size);
    ck_assert_uint_eq(report->latency[GATE_MODE_COPY].count, 1);
    ck_assert_uint_eq(report->bytes[GATE_MODE_COPY], (uint64_t)status.st_size);
    ck_assert_uint_eq(report->latency[GATE_MODE_SPLICE].count, 0);
    ck_assert_uint_eq(report->latency[GATE_MODE_OTHER].count, 1);
    ck_assert_uint_ge(report->queue_wait.count, 2);
    ck_assert_uint_ge(report->value[GATE_COUNTER_threads], 5);
    ck_assert_uint_eq(report->value[GATE_COUNTER_most_requests], 12);
    ck_assert_uint_eq(report->value[GATE_COUNTER_requests], 12); /* each of them once */
    const struct read_list_readers all = {0};
    const struct read_packet *packet =
        gate_rig_ask(reader, READ_READERS, &all, sizeof all, READ_READER_LIST);
    const struct read_reader_entry *entry = packet->entries;
    ck_assert_uint_eq(packet->count, 1);
    ck_assert_uint_eq(entry->requests, 13);
    ck_assert_uint_eq(entry->bytes, 11 * (uint64_t)status.st_size);
    ck_assert_double_gt(entry->requests_per_second, 0);
    ck_assert_double_gt(entry->bytes_per_second, 0);
    fd_close(&pipe);
    fd_close(&reader);
}
END_TEST

START_TEST(histograms_know_their_quantiles)
{
    struct gate_histogram histogram = {0};
    ck_assert_uint_eq(gate_histogram_quantile(&histogram, 500000), 0);
    for (unsigned i = 1; i < GATE_HISTOGRAM_BUCKETS; i++)
        ck_assert_uint_gt(gate_histogram_end_ns(i), gate_histogram_end_ns(i - 1));
    for (uint64_t us = 1; us <= 1000; us++)
        gate_histogram_add(&histogram, us * 1000);
    ck_assert_uint_eq(histogram.count, 1000);
    ck_assert_uint_eq(histogram.max_ns, 1000000);
    const uint32_t ppm[] = {1000, 500000, 990000, 999000, 1000000};
    for (int i = 0; i < 5; i++) {
        const uint64_t is = gate_histogram_quantile(&histogram, ppm[i]), exact = ppm[i];
        ck_assert_msg(is >= exact && is <= exact * 5 / 4 + 1024, "%u ppm: %llu", ppm[i],
                      (unsigned long long)is);
    }
    gate_histogram_add(&histogram, UINT64_MAX);
    ck_assert_uint_eq(gate_histogram_quantile(&histogram, 1000000), UINT64_MAX);
    gate_histogram_add(&histogram, 0);
}
END_TEST

/* ---- the end ---- */

static void stop(void)
{
    const struct message_stop said = {0};
    gate_rig_send(&rig, MESSAGE_STOP, &said, sizeof said);
}

static size_t drain(int pipe)
{
    static char bytes[65536];
    size_t size = 0;
    for (;;) {
        struct pollfd readable = {.fd = pipe, .events = POLLIN};
        ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
        ssize_t length = read(pipe, bytes, sizeof bytes);
        if (length == 0)
            return size;
        ck_assert(length > 0 || errno == EAGAIN);
        size += length > 0 ? (size_t)length : 0;
    }
}

START_TEST(what_was_accepted_is_answered)
{
    rig.limits.grace_ns = 20 * NS_PER_S;
    start();
    int idle = gate_rig_connect(&rig), reader = gate_rig_connect(&rig);
    gate_rig_quiet(idle);
    int pipe = begin_sending(reader, hows[_i]);
    hello(reader, 21); /* accepted: it waits behind the file */
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
    gate_rig_quiet(idle); /* and was received by now */
    stop();
    expect_refused(idle, 0, ESHUTDOWN, "the daemon stops");
    gate_rig_expect_end(idle);
    hello(reader, 22); /* too late */
    ck_assert_uint_eq(drain(pipe), BIG_SIZE);
    const struct read_object_sent *sent = gate_rig_answer(reader, READ_OBJECT_SENT)->object_sent;
    ck_assert_int_eq(sent->error, 0);
    ck_assert_uint_eq(sent->bytes, BIG_SIZE);
    ck_assert_uint_eq(gate_rig_answer(reader, READ_WELCOME)->header.request, 21);
    expect_refused(reader, 22, ESHUTDOWN, "the daemon stops");
    expect_refused(reader, 0, ESHUTDOWN, "the daemon stops");
    gate_rig_expect_end(reader);
    ck_assert_int_eq(gate_rig_wait(&rig), 0);
    fd_close(&pipe);
    fd_close(&idle);
    fd_close(&reader);
}
END_TEST

/* It may well be there for the next gate: nobody is told that there is none. */
START_TEST(what_was_not_lent_yet_is_for_the_next_gate)
{
    const struct read_attach attach = {.channel = "later", .mode = HF_OLD};
    const struct read_list all = {0};
    rig.limits.grace_ns = 20 * NS_PER_S; /* which need not pass */
    rig.lends_later = true;
    start();
    int attaching = gate_rig_connect(&rig), listing = gate_rig_connect(&rig);
    int other = gate_rig_connect(&rig);
    gate_rig_await(&rig, GATE_COUNTER_connections, 3);
    gate_rig_request(attaching, READ_ATTACH, 1, &attach, sizeof attach);
    gate_rig_request(listing, READ_LIST, 1, &all, sizeof all);
    gate_rig_quiet(other); /* they were received by now: it came behind them */
    fd_close(&other);
    const monotonic begun = monotonic_now();
    stop();
    expect_refused(attaching, 1, ESHUTDOWN, "the daemon stops");
    expect_refused(listing, 1, ESHUTDOWN, "the daemon stops");
    ck_assert_int_eq(gate_rig_wait(&rig), 0);
    ck_assert_uint_lt(monotonic_since(monotonic_now(), begun), rig.limits.grace_ns);
    fd_close(&attaching);
    fd_close(&listing);
}
END_TEST

START_TEST(what_takes_longer_is_an_error)
{
    rig.limits.grace_ns = 200 * NS_PER_MS;
    start();
    int reader = gate_rig_connect(&rig);
    int pipe = begin_sending(reader, hows[_i]);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0); /* the pipe is full */
    stop();
    const struct read_object_sent *sent = gate_rig_answer(reader, READ_OBJECT_SENT)->object_sent;
    ck_assert_int_eq(sent->error, ESHUTDOWN);
    ck_assert_uint_lt(drain(pipe), BIG_SIZE);
    expect_refused(reader, 0, ESHUTDOWN, "grace = 200ms: the daemon stops");
    gate_rig_expect_end(reader);
    ck_assert_int_eq(gate_rig_wait(&rig), 0);
    fd_close(&pipe);
    fd_close(&reader);
}
END_TEST

/* ---- a thousand of one user ---- */

static unsigned long switches(void)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)rig.pid);
    ck_assert_int_gt(unit_read_small_file(AT_FDCWD, path, text, sizeof text), 0);
    return strtoul(strstr(text, "\nvoluntary_ctxt_switches:") + 25, NULL, 10);
}

START_TEST(a_thousand_connections_cost_little_and_sleep)
{
    enum { MANY = 1000 };
    static int readers[MANY];
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 2 * (8 * MANY + 200))
        unit_skip("%d connections of one user are not allowed here", MANY);
    start();
    const long before = gate_rig_memory(&rig);
    for (int i = 0; i < MANY; i++) {
        readers[i] = gate_rig_connect(&rig);
        gate_rig_quiet(readers[i]);
    }
    ck_assert_uint_eq(gate_rig_report(&rig)->value[GATE_COUNTER_connections], MANY);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    ck_assert_int_lt(gate_rig_memory(&rig) - before, 50 * 1024);
#endif
    (void)before;
    /* The last report is due within a second; behind it, nothing ever is. */
    const struct timespec while_ = {.tv_sec = 1, .tv_nsec = 500 * 1000 * 1000};
    unsigned long now = switches(), earlier;
    for (int i = 0; i < 10; i++) {
        earlier = now;
        nanosleep(&while_, NULL);
        now = switches();
        if (now == earlier)
            break;
    }
    ck_assert_uint_eq(now, earlier);
    fd_close_all(readers, MANY);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gate_limits");
    TCase *tests = tcase_create("gate_limits");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, connections_are_counted_for_all_and_for_each_user);
    tcase_add_test(tests, who_asks_too_often_is_told_so);
    tcase_add_test(tests, a_connection_ends_after_so_many_requests);
    tcase_add_test(tests, descriptors_under_way_are_counted_for_each_user);
    tcase_add_test(tests, descriptors_under_way_count_when_their_connection_has_ended);
    tcase_add_test(tests, bytes_that_are_being_sent_are_counted_for_each_user);
    tcase_add_test(tests, who_is_idle_is_told_and_ends);
    tcase_add_loop_test(tests, who_takes_nothing_of_a_file_gets_no_more, 0, 2);
    tcase_add_test(tests, the_queue_is_as_long_as_is_said);
    tcase_add_test(tests, a_disk_that_does_not_answer_is_not_waited_for);
    tcase_add_test(tests, what_waits_behind_is_not_waited_for_either);
    tcase_add_loop_test(tests, a_slow_reader_does_not_keep_a_thread, 0, 2);
    tcase_add_test(tests, requests_are_measured_by_mode);
    tcase_add_loop_test(tests, what_was_sent_counts_when_its_reader_has_gone, 0, 2);
    tcase_add_loop_test(tests, what_was_accepted_is_answered, 0, 2);
    tcase_add_test(tests, what_was_not_lent_yet_is_for_the_next_gate);
    tcase_add_loop_test(tests, what_takes_longer_is_an_error, 0, 2);
    tcase_add_test(tests, a_thousand_connections_cost_little_and_sleep);
    TCase *pure = tcase_create("pure");
    tcase_add_test(pure, histograms_know_their_quantiles);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, pure);
    return log_maker_run(suite);
}
