/* SPDX-License-Identifier: MIT */
/* What a killed receiver leaves. A forked worker takes datagrams from a real socket and dies at a
 * chosen step: with space reserved, with the batch armed, with datagrams received and not
 * published, in the middle of filling their descriptors, and after publishing; a second worker,
 * mapped the same way or another, then publishes exactly what the first one had been given. At last
 * a storm of SIGKILLs at random instants, judged by the ids in the payloads. */
#include "common/inflight.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/channel_page_check.h"
#include "common/monotonic.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/udp_pair.h"
#include "tests/lib/unit.h"

#define MAX_DATAGRAM 200u
#define SLOT         256u
#define BEFORE       60u /* published in peace; the 64th descriptor is the last one of its page */
#define BATCH        16u

enum death { AFTER_RESERVE, AFTER_ARM, AFTER_RECEIVE, WHILE_FILLING, AFTER_PUBLISH, DEATH_COUNT };

struct mapping_pair {
    enum ring_mapping_wanted first, second;
};
static const struct mapping_pair mapping_pairs[] = {{RING_MAPPING_DOUBLE, RING_MAPPING_DOUBLE},
                                                    {RING_MAPPING_DOUBLE, RING_MAPPING_MIRROR},
                                                    {RING_MAPPING_MIRROR, RING_MAPPING_MIRROR},
                                                    {RING_MAPPING_MIRROR, RING_MAPPING_AUTO},
                                                    {RING_MAPPING_MIRROR, RING_MAPPING_DOUBLE}};
#define MAPPING_PAIRS (sizeof mapping_pairs / sizeof *mapping_pairs)

struct crash {
    enum death death;
    struct mapping_pair mapping;
    bool rewound;      /* the worker went back to the start of the memory first */
    bool dies_settled; /* so does its successor, when it has settled, and has not said so yet */
    enum ring_mapping_wanted third; /* by whom it is followed then */
    uint64_t start_position;
    struct ring_fixture fixture;
    struct udp_pair pair;
};

static uint32_t length_of(uint64_t id)
{
    return (uint32_t)(id * 2654435761u >> 9) % (MAX_DATAGRAM + 1);
}

static void send_ids(const struct udp_pair *pair, uint64_t from, uint64_t end)
{
    uint8_t payload[MAX_DATAGRAM];
    for (uint64_t id = from; id < end; id++) {
        ring_fixture_fill(payload, id, length_of(id));
        udp_pair_send(pair, payload, length_of(id), 0);
    }
}

/* In the child: attach like a worker, without Check's assertions, which belong to the parent. */
static bool attach_in_child(struct ring_fixture *fixture, enum ring_mapping_wanted mapping)
{
    const char *what;
    if (ring_attach(&fixture->ring, &fixture->memory, &fixture->geometry, mapping) < 0 ||
        channel_page_check(fixture->ring.page, fixture->ring.descriptors, &fixture->geometry,
                           RING_FIXTURE_CHANNEL, &what) < 0 ||
        ring_settle(&fixture->ring, fixture->memory.ring) < 0)
        return false;
    ring_writer_open(&fixture->writer, &fixture->ring);
    return true;
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static void worker_that_dies(struct crash *crash)
{
    struct ring_fixture *fixture = &crash->fixture;
    if (!attach_in_child(fixture, crash->mapping.first))
        _exit(3);
    while (fixture->writer.seq < BEFORE)
        udp_pair_receive(&fixture->writer, crash->pair.rx, 1);
    send_ids(&crash->pair, BEFORE, BEFORE + BATCH);
    if (crash->rewound)
        ring_rewind(&fixture->writer);
    ring_reserve(&fixture->writer, BATCH);
    if (crash->death == AFTER_RESERVE)
        die();
    struct mmsghdr *messages = inflight_arm(&fixture->writer, BATCH);
    if (crash->death == AFTER_ARM)
        die();
    int count = recvmmsg(crash->pair.rx, messages, BATCH, MSG_WAITFORONE | MSG_TRUNC, NULL);
    if (count != (int)BATCH)
        _exit(4);
    if (crash->death == AFTER_RECEIVE)
        die();
    if (crash->death == WHILE_FILLING) { /* the fifth descriptor of the batch can't be written: a
                                            real fault inside */
        signal(SIGSEGV, SIG_DFL);
        if (mprotect(fixture->ring.descriptors + 64, 4096, PROT_READ) < 0)
            _exit(5);
    }
    inflight_publish(&fixture->writer, BATCH);
    if (crash->death == AFTER_PUBLISH)
        die();
    _exit(6);
}

static int run_child(struct crash *crash)
{
    int status;
    pid_t child = unit_fork();
    if (child == 0)
        worker_that_dies(crash);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

/* What it leaves is what settling did, and the word as it was: that is written last. */
static void settle_and_die(struct ring_fixture *fixture, enum ring_mapping_wanted mapping)
{
    ck_assert_int_eq(ring_attach(&fixture->ring, &fixture->memory, &fixture->geometry, mapping), 0);
    uint32_t before = atomic_load(&fixture->ring.page->private.mapping);
    ck_assert_int_eq(ring_settle(&fixture->ring, fixture->memory.ring), 0);
    atomic_store(&fixture->ring.page->private.mapping, before);
    ring_detach(&fixture->ring);
}

static void crash_and_recover(struct crash *crash)
{
    static const uint32_t saved[DEATH_COUNT] = {[AFTER_RECEIVE] = BATCH, [WHILE_FILLING] = BATCH};
    struct ring_fixture_settings settings = {
        .ring_size = 65536, .max_datagram = MAX_DATAGRAM, .start_position = crash->start_position};
    struct ring_fixture *fixture = &crash->fixture;
    ring_fixture_make(fixture, &settings);
    ck_assert_uint_eq(fixture->geometry.slot_size, SLOT);
    udp_pair_open(&crash->pair, &(struct udp_pair_settings){.family = AF_INET});
    send_ids(&crash->pair, 0, BEFORE);
    int status = run_child(crash);
    ck_assert_msg(WIFSIGNALED(status), "the worker of death %d exited with %d", crash->death,
                  WEXITSTATUS(status));
    ck_assert_int_eq(WTERMSIG(status), crash->death == WHILE_FILLING ? SIGSEGV : SIGKILL);

    enum ring_mapping_wanted last = crash->mapping.second;
    if (crash->dies_settled) {
        settle_and_die(fixture, crash->mapping.second);
        last = crash->third;
    }
    ring_fixture_attach(fixture, last);
    ck_assert_int_eq(fixture->ring.data.doubled, last != RING_MAPPING_MIRROR);
    ck_assert_uint_eq(inflight_recover(&fixture->writer), saved[crash->death]);
    ck_assert_uint_eq(inflight_recover(&fixture->writer), 0); /* the batch is history now */
    while (udp_pair_receive(&fixture->writer, crash->pair.rx, 5))
        ;
    ck_assert_uint_eq(fixture->writer.seq, BEFORE + BATCH);
    /* A worker rewinds only when every reader is done: what lies before may be lapped then. */
    for (uint64_t id = crash->rewound ? BEFORE : 0; id < BEFORE + BATCH; id++) {
        struct ring_datagram datagram;
        if (!ring_peek(&fixture->ring, id, &datagram) || datagram.length != length_of(id) ||
            !ring_fixture_matches(datagram.data, id, datagram.length) ||
            datagram.port != crash->pair.tx_port)
            ck_abort_msg("death %d: datagram %llu is not what was sent", crash->death,
                         (unsigned long long)id);
    }
    udp_pair_close(&crash->pair);
    ring_fixture_close(fixture);
}

/* Where the ring must start so that slot `slot` of the batch lies across the wrap, `bytes` below
 * it. */
static uint64_t start_for(uint32_t slot, uint32_t bytes)
{
    uint64_t used = 0;
    for (uint64_t id = 0; id < BEFORE; id++)
        used += (length_of(id) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    return 65536 - used - slot * SLOT - bytes;
}

START_TEST(a_death_at_each_step)
{
    static const uint32_t below_the_wrap[] = {0, 64, 128, 192};
    for (size_t pair = 0; pair < MAPPING_PAIRS; pair++)
        for (size_t i = 0; i < 4; i++)
            for (uint32_t slot = 0; slot < BATCH; slot += 5) {
                struct crash crash = {.death = (enum death)_i,
                                      .mapping = mapping_pairs[pair],
                                      .start_position = start_for(slot, below_the_wrap[i])};
                crash_and_recover(&crash);
            }
}
END_TEST

START_TEST(a_successor_that_dies_while_it_settles)
{
    static const enum ring_mapping_wanted thirds[] = {RING_MAPPING_DOUBLE, RING_MAPPING_MIRROR};
    for (size_t pair = 0; pair < MAPPING_PAIRS; pair++)
        for (size_t third = 0; third < 2; third++)
            for (uint32_t slot = 0; slot < BATCH; slot += 5) {
                struct crash crash = {.death = (enum death)_i,
                                      .mapping = mapping_pairs[pair],
                                      .dies_settled = true,
                                      .third = thirds[third],
                                      .start_position = start_for(slot, 128)};
                crash_and_recover(&crash);
            }
}
END_TEST

START_TEST(a_death_at_each_step_after_a_rewind)
{
    for (size_t pair = 0; pair < MAPPING_PAIRS; pair++) {
        struct crash crash = {
            .death = (enum death)_i, .mapping = mapping_pairs[pair], .rewound = true};
        crash_and_recover(&crash);
    }
}
END_TEST

/* ---- coalesced runs ---- */

#define RUNS    2u
#define RUN_OF  40u
#define SEGMENT 150u

static void worker_that_dies_with_runs(struct crash *crash)
{
    struct ring_fixture *fixture = &crash->fixture;
    if (!attach_in_child(fixture, crash->mapping.first))
        _exit(3);
    ring_reserve(&fixture->writer, RUNS);
    struct mmsghdr *messages = inflight_arm(&fixture->writer, RUNS);
    if (recvmmsg(crash->pair.rx, messages, RUNS, MSG_WAITFORONE | MSG_TRUNC, NULL) != (int)RUNS)
        _exit(4);
    die();
}

START_TEST(coalesced_runs_are_saved_too)
{
    static uint8_t payload[RUN_OF * SEGMENT];
    const struct mapping_pair mapping = mapping_pairs[_i];
    for (uint64_t below = 0; below < RUN_OF * SEGMENT; below += 704) {
        struct crash crash = {.mapping = mapping};
        struct ring_fixture *fixture = &crash.fixture;
        struct ring_fixture_settings settings = {
            .ring_size = 65536, .max_datagram = MAX_DATAGRAM, .receive_offload = 1};
        settings.start_position = 8 * 65536 - below / 64 * 64;
        ring_fixture_make(fixture, &settings);
        udp_pair_open(&crash.pair, &(struct udp_pair_settings){.family = AF_INET, .offload = true});
        for (uint32_t i = 0; i < RUNS * RUN_OF; i++) {
            ring_fixture_fill(payload + i % RUN_OF * SEGMENT, i, SEGMENT);
            if (i % RUN_OF == RUN_OF - 1)
                udp_pair_send(&crash.pair, payload, sizeof payload, SEGMENT);
        }
        int status;
        pid_t child = unit_fork();
        if (child == 0)
            worker_that_dies_with_runs(&crash);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSIGNALED(status));
        ring_fixture_attach(fixture, mapping.second);
        ck_assert_uint_eq(inflight_recover(&fixture->writer), RUNS * RUN_OF);
        for (uint64_t id = 0; id < RUNS * RUN_OF; id++) {
            struct ring_datagram datagram;
            if (!ring_peek(&fixture->ring, id, &datagram) || datagram.length != SEGMENT ||
                !ring_fixture_matches(datagram.data, id, SEGMENT))
                ck_abort_msg("datagram %llu of a run is not what was sent", (unsigned long long)id);
        }
        udp_pair_close(&crash.pair);
        ring_fixture_close(fixture);
    }
}
END_TEST

/* ---- the storm ---- */

#define KILLS 400
/* Fits the socket's buffer however long a worker takes: the kernel never drops */
#define OUTSTANDING_MAX 2000
#define IDS_MAX         4000000u

struct storm {
    struct ring_fixture fixture;
    struct udp_pair pair;
    _Atomic bool stop;
    _Atomic uint64_t sent;
    _Atomic uint64_t *rescues; /* shared: how often a worker found a live batch */
    uint64_t cursor;           /* read from the ring up to here */
    uint8_t *seen;
};

static void *storm_sender(void *argument)
{
    struct storm *storm = argument;
    const struct timespec pause_between = {.tv_nsec = 300000};
    uint8_t payload[MAX_DATAGRAM] = {0};
    for (uint64_t id = 0; id < IDS_MAX && !atomic_load(&storm->stop); id++) {
        while (id % 20 == 0 && id - ring_published(&storm->fixture.ring) > OUTSTANDING_MAX - 20 &&
               !atomic_load(&storm->stop))
            nanosleep(&pause_between, NULL);
        if (id % 20 == 0)
            nanosleep(&pause_between, NULL);
        memcpy(payload, &id, sizeof id);
        udp_pair_send(&storm->pair, payload, 8 + length_of(id) % (MAX_DATAGRAM - 8), 0);
        atomic_store(&storm->sent, id + 1);
    }
    return NULL;
}

/* Receives until it is killed; the last one only until the socket is empty. */
static void storm_worker(struct storm *storm, bool last, enum ring_mapping_wanted mapping)
{
    struct ring_fixture fixture = storm->fixture;
    if (!attach_in_child(&fixture, mapping))
        _exit(3);
    if (inflight_recover(&fixture.writer))
        atomic_fetch_add(storm->rescues, 1);
    const uint32_t slots = fixture.geometry.slot_count;
    while (last && udp_pair_receive(&fixture.writer, storm->pair.rx, slots))
        ;
    while (!last) {
        ring_reserve(&fixture.writer, slots);
        struct mmsghdr *messages = inflight_arm(&fixture.writer, slots);
        int count = recvmmsg(storm->pair.rx, messages, slots, MSG_WAITFORONE | MSG_TRUNC, NULL);
        if (count > 0)
            inflight_publish(&fixture.writer, (uint32_t)count);
    }
    _exit(0);
}

static void storm_read(struct storm *storm)
{
    for (; storm->cursor < ring_published(&storm->fixture.ring); storm->cursor++) {
        struct ring_datagram datagram;
        uint64_t id;
        if (!ring_peek(&storm->fixture.ring, storm->cursor, &datagram))
            ck_abort_msg("datagram %llu was lapped", (unsigned long long)storm->cursor);
        memcpy(&id, datagram.data, sizeof id);
        if (datagram.lost_before || id >= IDS_MAX ||
            datagram.length != 8 + length_of(id) % (MAX_DATAGRAM - 8))
            ck_abort_msg("datagram %llu: id %llu, %u bytes, %u lost",
                         (unsigned long long)storm->cursor, (unsigned long long)id, datagram.length,
                         datagram.lost_before);
        if (storm->seen[id]++)
            ck_abort_msg("id %llu came twice", (unsigned long long)id);
    }
}

START_TEST(a_storm_of_kills_loses_nothing)
{
    /* The last time round, the workers take turns. */
    const enum ring_mapping_wanted mapping = _i == 1 ? RING_MAPPING_MIRROR : RING_MAPPING_DOUBLE;
    struct ring_fixture_settings settings = {
        .ring_size = 4 << 20, .max_datagram = MAX_DATAGRAM, .mapping = mapping};
    static struct storm storm;
    pthread_t sender;
    uint64_t random = (uint64_t)_i + 1;
    int status;
    ring_fixture_open(&storm.fixture, &settings);
    udp_pair_open(&storm.pair,
                  &(struct udp_pair_settings){.family = AF_INET, .receive_buffer = 4 << 20});
    storm.seen = calloc(IDS_MAX, 1);
    storm.rescues = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(storm.seen && storm.rescues != MAP_FAILED);
    ck_assert_int_eq(pthread_create(&sender, NULL, storm_sender, &storm), 0);
    for (int kills = 0; kills <= KILLS; kills++) {
        pid_t child = unit_fork();
        if (child == 0)
            storm_worker(&storm, kills == KILLS,
                         _i == 2 && kills % 2 ? RING_MAPPING_MIRROR : mapping);
        if (kills < KILLS) {
            struct timespec pause_until_kill = {.tv_nsec =
                                                    (long)(ring_fixture_random(&random) % 3000000)};
            nanosleep(&pause_until_kill, NULL);
            kill(child, SIGKILL);
        }
        if (waitpid(child, &status, 0) != child ||
            (kills < KILLS ? !WIFSIGNALED(status) : status != 0))
            ck_abort_msg("worker %d ended with status %#x", kills, (unsigned)status);
        storm_read(&storm);
        if (kills == KILLS - 1) {
            atomic_store(&storm.stop, true);
            pthread_join(sender, NULL);
        }
    }
    uint64_t sent = atomic_load(&storm.sent), lost = 0;
    for (uint64_t id = 0; id < sent; id++)
        lost += !storm.seen[id];
    ck_assert_uint_gt(sent, 1000);
    ck_assert_msg(lost == 0, "%llu of %llu datagrams are lost", (unsigned long long)lost,
                  (unsigned long long)sent);
    ck_assert_uint_eq(storm.cursor, sent);
    ck_assert_uint_gt(atomic_load(storm.rescues),
                      0); /* else the storm never hit a batch and showed nothing */
    free(storm.seen);
    munmap(storm.rescues, 4096);
    udp_pair_close(&storm.pair);
    ring_fixture_close(&storm.fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inflight_crash");
    TCase *steps = tcase_create("steps");
    TCase *storm = tcase_create("storm");
    tcase_set_timeout(steps, 60);
    tcase_set_timeout(storm, 120);
    tcase_add_loop_test(steps, a_death_at_each_step, 0, DEATH_COUNT);
    tcase_add_loop_test(steps, a_successor_that_dies_while_it_settles, 0, DEATH_COUNT);
    tcase_add_loop_test(steps, a_death_at_each_step_after_a_rewind, 0, DEATH_COUNT);
    tcase_add_loop_test(steps, coalesced_runs_are_saved_too, 0, (int)MAPPING_PAIRS);
    tcase_add_loop_test(storm, a_storm_of_kills_loses_nothing, 0, 3);
    suite_add_tcase(suite, steps);
    suite_add_tcase(suite, storm);
    return unit_run(suite);
}
