/* SPDX-License-Identifier: MIT */
/* A reader of a running daemon, measured: how long after the kernel has received a datagram
 * (`received`), or after the channel has published it (`published`), does a program have it? With
 * `spin` it asks again and again, with `sleep` it waits for hf_reader_fd(). Says "ready" when it
 * follows, ends after COUNT datagrams or when nothing came for three seconds, and prints what it
 * has seen as JSON. Times of receipt are CLOCK_REALTIME on both sides. When a datagram was
 * published is seen in the ring's memory: by a thread that looks all the time, on WATCH_CPU; who
 * spins looks itself. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "common/channel_public.h"
#include "common/client/holdfast.h"
#include "common/client/live_state.h"
#include "tests/bench/histogram.h"

#define SILENCE_MS 3000

#define SEEN_COUNT 65536u

static struct histogram delays;

/* When datagrams were seen to be published: of the last ones, by number. */
static struct {
    const struct channel_public *page;
    int cpu;
    uint64_t next; /* of its numbers those before were seen */
    struct {
        _Atomic uint64_t behind; /* its number + 1: it is complete */
        _Atomic int64_t at_ns;
    } seen[SEEN_COUNT];
} watch;

struct follower {
    hf_reader *reader;
    bool spin;
    enum { NOT_TIMED, FROM_RECEIPT, FROM_PUBLISHING } timed; /* not: no clock is read */
    unsigned mode;
    int64_t looked_at_ns; /* the spinning one, at the ring's memory */
    uint64_t count, datagrams, bytes, lost, passed_over, sleeps, unseen;
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

static uint64_t published(void)
{
    return atomic_load_explicit(&watch.page->published, memory_order_acquire);
}

/* Is there more than when it was looked last? That is published now. */
static void look_at_ring(void)
{
    uint64_t end = published();
    if (end == watch.next)
        return;
    int64_t now = now_ns(CLOCK_MONOTONIC);
    for (uint64_t seq = watch.next; seq < end; seq++) {
        atomic_store_explicit(&watch.seen[seq % SEEN_COUNT].at_ns, now, memory_order_relaxed);
        atomic_store_explicit(&watch.seen[seq % SEEN_COUNT].behind, seq + 1, memory_order_release);
    }
    watch.next = end;
}

static void *watch_main(void *unused)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)watch.cpu, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    for (;;)
        look_at_ring();
    return unused;
}

/* -1 where nobody saw it. Who spins may have got it in the turn in which it was published: it was
 * not there when that turn began. */
static int64_t published_at(const struct follower *follower, uint64_t seq)
{
    for (int tries = 0; tries < (follower->spin ? 1 : 1000); tries++)
        if (atomic_load_explicit(&watch.seen[seq % SEEN_COUNT].behind, memory_order_acquire) ==
            seq + 1)
            return atomic_load_explicit(&watch.seen[seq % SEEN_COUNT].at_ns, memory_order_relaxed);
    return follower->spin ? follower->looked_at_ns : -1;
}

static void note_delay(struct follower *follower, const struct hf_datagram *datagram, int64_t now)
{
    int64_t since =
        follower->timed == FROM_RECEIPT ? datagram->time_ns : published_at(follower, datagram->seq);
    if (since < 0)
        follower->unseen++;
    else
        histogram_add(&delays, now > since ? (uint64_t)(now - since) : 0);
}

static void take(struct follower *follower, const struct hf_datagram *datagram)
{
    int64_t now = 0;
    if (follower->timed)
        now = now_ns(follower->timed == FROM_RECEIPT ? CLOCK_REALTIME : CLOCK_MONOTONIC);
    if (hf_check(follower->reader, datagram) != 1)
        return;
    follower->datagrams++;
    follower->bytes += datagram->length;
    if (follower->mode == HF_NEWEST)
        follower->passed_over += datagram->lost;
    if (follower->timed)
        note_delay(follower, datagram, now);
}

/* False when nothing came for a while. */
static bool wait_for_more(struct follower *follower, int64_t *silent_since)
{
    if (follower->spin) {
        if (*silent_since == 0)
            *silent_since = now_ns(CLOCK_MONOTONIC);
        if (follower->timed == FROM_PUBLISHING) {
            follower->looked_at_ns = now_ns(CLOCK_MONOTONIC);
            look_at_ring();
        }
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

static void watch_begin(const struct follower *follower, int cpu)
{
    pthread_t thread;
    const struct channel_public_map *map = &live_reader_of(follower->reader)->ring.map;
    if (!map->page)
        fail("the channel's ring", -ENODATA);
    /* The same memory once more: the reader gives its own map up now and then. */
    void *page = mremap((void *)(uintptr_t)map->page, 0, map->size, MREMAP_MAYMOVE);
    if (page == MAP_FAILED)
        fail("mapping the channel's ring", -errno);
    watch.page = page;
    watch.next = published();
    watch.cpu = cpu;
    int error = follower->spin ? 0 : pthread_create(&thread, NULL, watch_main, NULL);
    if (error)
        fail("starting a thread", -error);
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: bench_follow READ_SOCKET CHANNEL new|joined|newest spin|sleep "
                        "received|published|fast COUNT WATCH_CPU\n");
        return 2;
    }
    struct follower follower = {
        .mode = strcmp(argv[3], "newest") == 0   ? HF_NEWEST
                : strcmp(argv[3], "joined") == 0 ? HF_JOINED
                                                 : HF_NEW,
        .spin = strcmp(argv[4], "spin") == 0,
        .timed = strcmp(argv[5], "received") == 0    ? FROM_RECEIPT
                 : strcmp(argv[5], "published") == 0 ? FROM_PUBLISHING
                                                     : NOT_TIMED,
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
    if (follower.timed == FROM_PUBLISHING)
        watch_begin(&follower, atoi(argv[7]));
    printf("ready\n");
    fflush(stdout);
    int64_t begun = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    follow(&follower);
    printf("{\"datagrams\": %llu, \"bytes\": %llu, \"lost\": %llu, \"passed_over\": %llu, "
           "\"sleeps\": %llu, \"unseen\": %llu, \"ns\": %lld, \"cpu_ns\": %lld, \"max_ns\": %llu, "
           "\"delays\": ",
           (unsigned long long)follower.datagrams, (unsigned long long)follower.bytes,
           (unsigned long long)follower.lost, (unsigned long long)follower.passed_over,
           (unsigned long long)follower.sleeps, (unsigned long long)follower.unseen,
           (long long)(now_ns(CLOCK_MONOTONIC) - begun),
           (long long)(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu), (unsigned long long)delays.highest);
    histogram_print(&delays, stdout);
    printf("}\n");
    hf_close(handle);
    return 0;
}
