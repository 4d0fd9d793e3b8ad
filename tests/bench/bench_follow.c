/* SPDX-License-Identifier: MIT */
/* A reader of a running daemon, measured: how long after the kernel has received a datagram does a
 * program have it? With `spin` it asks again and again, with `sleep` it waits for hf_reader_fd().
 * Says "ready" when it follows, ends after COUNT datagrams or when nothing came for three seconds,
 * and prints what it has seen as JSON. Times are CLOCK_REALTIME on both sides. */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/client/holdfast.h"
#include "tests/bench/histogram.h"

#define SILENCE_MS 3000

static struct histogram delays;

struct follower {
    hf_reader *reader;
    bool spin;
    bool timed; /* false: as fast as it can, no clock is read */
    unsigned mode;
    uint64_t count, datagrams, bytes, lost, passed_over, sleeps;
};

static _Noreturn void fail(const char *what, int error)
{
    fprintf(stderr, "bench_follow: %s: %s\n", what, strerror(-error));
    exit(1);
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void take(struct follower *follower, const struct hf_datagram *datagram)
{
    int64_t now = follower->timed ? now_ns(CLOCK_REALTIME) : 0;
    if (hf_check(follower->reader, datagram) != 1)
        return;
    follower->datagrams++;
    follower->bytes += datagram->length;
    if (follower->mode == HF_NEWEST)
        follower->passed_over += datagram->lost;
    if (follower->timed)
        histogram_add(&delays, now > datagram->time_ns ? (uint64_t)(now - datagram->time_ns) : 0);
}

/* False when nothing came for a while. */
static bool wait_for_more(struct follower *follower, int64_t *silent_since)
{
    if (follower->spin) {
        if (*silent_since == 0)
            *silent_since = now_ns(CLOCK_MONOTONIC);
        return now_ns(CLOCK_MONOTONIC) - *silent_since < SILENCE_MS * 1000000ll;
    }
    struct pollfd readable = {.fd = hf_reader_fd(follower->reader), .events = POLLIN};
    follower->sleeps++;
    return poll(&readable, 1, SILENCE_MS) > 0;
}

static void follow(struct follower *follower)
{
    int64_t silent_since = 0;
    struct hf_datagram datagram;
    while (follower->datagrams < follower->count) {
        int result = hf_next(follower->reader, &datagram);
        if (result < 0)
            fail("reading", result);
        if (result == HF_DATAGRAM)
            take(follower, &datagram);
        else if (result == HF_LOST)
            follower->lost += datagram.lost;
        else if (result == HF_NONE && !wait_for_more(follower, &silent_since))
            return;
        if (result != HF_NONE)
            silent_since = 0;
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: bench_follow READ_SOCKET CHANNEL new|joined|newest spin|sleep "
                        "timed|fast COUNT\n");
        return 2;
    }
    struct follower follower = {
        .mode = strcmp(argv[3], "newest") == 0   ? HF_NEWEST
                : strcmp(argv[3], "joined") == 0 ? HF_JOINED
                                                 : HF_NEW,
        .spin = strcmp(argv[4], "spin") == 0,
        .timed = strcmp(argv[5], "timed") == 0,
        .count = strtoull(argv[6], NULL, 10),
    };
    const struct hf_start end = {.at = HF_END};
    hf *handle = NULL;
    int error = hf_open(&handle, argv[1]);
    if (error < 0)
        fail("connecting", error);
    error = hf_read(handle, argv[2], &end, follower.mode, &follower.reader);
    if (error < 0)
        fail("opening the channel", error);
    printf("ready\n");
    fflush(stdout);
    int64_t begun = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    follow(&follower);
    printf("{\"datagrams\": %llu, \"bytes\": %llu, \"lost\": %llu, \"passed_over\": %llu, "
           "\"sleeps\": %llu, \"ns\": %lld, \"cpu_ns\": %lld, \"max_ns\": %llu, \"delays\": ",
           (unsigned long long)follower.datagrams, (unsigned long long)follower.bytes,
           (unsigned long long)follower.lost, (unsigned long long)follower.passed_over,
           (unsigned long long)follower.sleeps, (long long)(now_ns(CLOCK_MONOTONIC) - begun),
           (long long)(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu), (unsigned long long)delays.highest);
    histogram_print(&delays, stdout);
    printf("}\n");
    hf_close(handle);
    return 0;
}
