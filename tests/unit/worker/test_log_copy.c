/* SPDX-License-Identifier: MIT */
/* hf_log_open() and hf_log_copy() with a real gate: whatever kind of descriptor the bytes go to,
 * and however slowly, all of them come, and never others. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/gate_rig.h"
#include "tests/lib/unit.h"

#define SIZE (4u * 1024 * 1024)

static struct gate_rig rig;
static hf *handle;
static char name[SEGMENT_NAME_SIZE], path[512];
static uint8_t *bytes;

static void setup(void)
{
    uint64_t state = 11;
    gate_rig_prepare(&rig);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, 0, -1);
    gate_rig_start(&rig);
    bytes = malloc(SIZE);
    snprintf(name, sizeof name, "%s",
             GATE_RIG_CHANNEL "-00000000000000000001-20251009T085320Z.avro");
    snprintf(path, sizeof path, "%s/%s", rig.channel, name);
    for (size_t i = 0; i < SIZE; i += sizeof state) {
        uint64_t word = log_maker_random(&state) | 0x0101010101010101; /* no byte is zero */
        memcpy(bytes + i, &word, sizeof word);
    }
    log_maker_write(rig.channel, name, bytes, SIZE);
    ck_assert_int_eq(hf_open(&handle, rig.socket_path), 0);
}

static void teardown(void)
{
    hf_close(handle);
    free(bytes);
    gate_rig_end(&rig);
}

/* ---- somebody who takes what comes, now and then ---- */

struct taker {
    pthread_t thread;
    int from;
    int pause_ms; /* after each part */
    uint8_t *bytes;
    size_t size;
};

static void *take(void *argument)
{
    struct taker *taker = argument;
    ssize_t length;
    while ((length = read(taker->from, taker->bytes + taker->size, 256 * 1024)) > 0) {
        taker->size += (size_t)length;
        poll(NULL, 0, taker->pause_ms);
    }
    return NULL;
}

static void begin_taking(struct taker *taker, int from, int pause_ms)
{
    *taker = (struct taker){.from = from, .pause_ms = pause_ms, .bytes = malloc(SIZE + 256 * 1024)};
    ck_assert_int_eq(pthread_create(&taker->thread, NULL, take, taker), 0);
}

static void expect_taken(struct taker *taker, int64_t result)
{
    pthread_join(taker->thread, NULL);
    ck_assert_int_eq(result, SIZE);
    ck_assert_uint_eq(taker->size, SIZE);
    ck_assert_int_eq(memcmp(taker->bytes, bytes, SIZE), 0);
    free(taker->bytes);
    fd_close(&taker->from);
}

static uint64_t cpu_ns(void)
{
    struct timespec used;
    ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used), 0);
    return timespec_ns(&used);
}

/* A pipe, one that doesn't block, and a socket that doesn't, by each way; whoever takes is slow,
 * and waiting for him takes no processor. */
START_TEST(to_whatever_it_goes)
{
    static const int kinds[] = {0, O_NONBLOCK};
    int ends[2];
    struct taker taker;
    const unsigned how = (unsigned)_i;
    const uint64_t begun = cpu_ns();
    const monotonic since = monotonic_now();
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
        ck_assert_int_eq(fcntl(ends[1], F_SETFL, kinds[i]), 0);
        begin_taking(&taker, ends[0], 5);
        int64_t result = hf_log_copy(handle, GATE_RIG_CHANNEL, name, ends[1], 0, 0, how);
        fd_close(&ends[1]);
        expect_taken(&taker, result);
    }
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(fcntl(ends[1], F_SETFL, O_NONBLOCK | O_APPEND),
                     0); /* splice(2) refuses that */
    begin_taking(&taker, ends[0], 5);
    int64_t result = hf_log_copy(handle, GATE_RIG_CHANNEL, name, ends[1], 0, 0, how);
    fd_close(&ends[1]);
    expect_taken(&taker, result);
    ck_assert_uint_lt(2 * (cpu_ns() - begun), monotonic_since(monotonic_now(), since));
}
END_TEST

/* It is removed, and its space given back, while it is on its way. */
START_TEST(what_is_removed_is_never_zeros)
{
    int ends[2];
    uint8_t *came = malloc(SIZE + 1);
    size_t size = 0;
    struct hf_log log;
    ck_assert_int_eq(hf_log_open(handle, GATE_RIG_CHANNEL, name, &log), 0);
    fd_close(&log.fd);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t copier = fork();
    ck_assert_int_ge(copier, 0);
    if (copier == 0) {
        hf *own;
        if (hf_open(&own, rig.socket_path) < 0)
            _exit(1);
        _exit(hf_log_copy(own, GATE_RIG_CHANNEL, name, ends[1], 0, 0, (unsigned)_i) == -ESTALE ? 0
                                                                                               : 2);
    }
    fd_close(&ends[1]);
    struct pollfd readable = {.fd = ends[0], .events = POLLIN};
    ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1); /* it has begun, and waits */
    int file = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
    fd_close(&file);
    for (ssize_t length; (length = read(ends[0], came + size, SIZE + 1 - size)) > 0;)
        size += (size_t)length;
    ck_assert_uint_lt(size, SIZE);
    ck_assert_int_eq(memcmp(came, bytes, size), 0);
    int status;
    ck_assert_int_eq(waitpid(copier, &status, 0), copier);
    ck_assert_int_eq(status, 0);
    fd_close(&ends[0]);
    free(came);
}
END_TEST

START_TEST(parts_of_it)
{
    int ends[2];
    uint8_t came[8];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(hf_log_copy(handle, NULL, name, ends[1], 1000, 5, (unsigned)_i), 5);
    ck_assert_int_eq(read(ends[0], came, sizeof came), 5);
    ck_assert_int_eq(memcmp(came, bytes + 1000, 5), 0);
    ck_assert_int_eq(hf_log_copy(handle, NULL, name, ends[1], SIZE - 3, 100, (unsigned)_i), 3);
    ck_assert_int_eq(read(ends[0], came, sizeof came), 3);
    ck_assert_int_eq(hf_log_copy(handle, NULL, name, ends[1], SIZE, 0, (unsigned)_i), 0);
    ck_assert_int_eq(hf_log_copy(handle, NULL, name, ends[1], SIZE + 1, 0, (unsigned)_i), -EINVAL);
    ck_assert_int_eq(hf_log_copy(handle, NULL, "nothing", ends[1], 0, 0, (unsigned)_i), -EINVAL);
    ck_assert_int_eq(hf_log_copy(handle, "nobody", name, ends[1], 0, 0, (unsigned)_i), -ENOENT);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}
END_TEST

START_TEST(names_that_say_where_to_look)
{
    static const struct {
        const char *name;
        int result;
    } places[] = {{"first", 0},
                  {"last", 0},
                  {"seq:105", 0},
                  {"seq:109", 0},
                  {"seq:110", -ENOENT},
                  {"seq:99", 0},
                  {"@0", 0},
                  {"@9999999999", -ENOENT},
                  {"seq:", -EINVAL},
                  {"@1.x", -EINVAL},
                  {"@1.1234567890", -EINVAL}};
    char log_name[SEGMENT_NAME_SIZE];
    struct hf_log log;
    gate_rig_timed_log(&rig, 100, 10, 1000000000, log_name);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        ck_assert_msg(hf_log_open(handle, NULL, places[i].name, &log) == places[i].result, "%s",
                      places[i].name);
        fd_close(&log.fd);
    }
}
END_TEST

/* What the gate answers too late is nobody's, and the next request is answered all the same. */
START_TEST(what_was_given_up_is_forgotten)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct hf_log log;
    ck_assert_int_eq(kill(rig.pid, SIGSTOP), 0);
    ck_assert_int_eq(hf_log_copy(handle, NULL, name, nowhere, 0, 0, (unsigned)_i), -ETIMEDOUT);
    ck_assert_int_eq(kill(rig.pid, SIGCONT), 0);
    ck_assert_int_eq(hf_log_open(handle, NULL, name, &log), 0);
    fd_close(&log.fd);
    ck_assert_int_eq(hf_log_copy(handle, NULL, name, nowhere, 0, 0, (unsigned)_i), SIZE);
    fd_close(&nowhere);
}
END_TEST

struct asking {
    const char *name;
    unsigned how;
    int64_t result;
};

static void *ask_for_it(void *argument)
{
    struct asking *asking = argument;
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    asking->result = hf_log_copy(handle, NULL, asking->name, nowhere, 0, 0, asking->how);
    fd_close(&nowhere);
    return NULL;
}

/* Its totals are in its header, and nobody vouches for them: it comes when it has its name. */
START_TEST(what_is_just_being_sealed_is_waited_for)
{
    char sealed[SEGMENT_NAME_SIZE], from[512], to[512];
    struct asking asking = {.how = (unsigned)_i};
    pthread_t thread;
    gate_rig_log(&rig, 100, 10, false, sealed);
    snprintf(to, sizeof to, "%s/%s", rig.channel, sealed);
    snprintf(from, sizeof from, "%.400s.open", to);
    ck_assert_int_eq(rename(to, from), 0);
    asking.name = sealed;
    const uint64_t before = gate_rig_report(&rig)->value[GATE_COUNTER_requests];
    ck_assert_int_eq(pthread_create(&thread, NULL, ask_for_it, &asking), 0);
    while (gate_rig_report(&rig)->value[GATE_COUNTER_requests] < before + 2)
        poll(NULL, 0, 1); /* so it has asked again */
    ck_assert_int_eq(rename(from, to), 0);
    pthread_join(thread, NULL);
    ck_assert_int_gt(asking.result, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_copy");
    TCase *tests = tcase_create("log_copy");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, to_whatever_it_goes, HF_BY_FD, HF_BY_SPLICE + 1);
    tcase_add_loop_test(tests, what_is_removed_is_never_zeros, HF_BY_FD, HF_BY_SPLICE + 1);
    tcase_add_loop_test(tests, parts_of_it, HF_BY_FD, HF_BY_SPLICE + 1);
    tcase_add_test(tests, names_that_say_where_to_look);
    tcase_add_loop_test(tests, what_was_given_up_is_forgotten, HF_BY_COPY, HF_BY_SPLICE + 1);
    tcase_add_loop_test(tests, what_is_just_being_sealed_is_waited_for, HF_BY_FD, HF_BY_SPLICE + 1);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
