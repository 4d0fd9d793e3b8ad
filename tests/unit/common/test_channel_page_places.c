/* SPDX-License-Identifier: MIT */
/* Places that are given up. What they have counted becomes part of a sum; a worker that dies over
 * it, at any instruction, leaves a page that is sound, that says the same sums, and with which a
 * successor can go on. */
#include "common/channel_page_counters.h"
#include "common/channel_page_places.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/channel_page_check.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"

#if defined(__SANITIZE_THREAD__)
#define STEPPED 1 /* of them: each takes thirty times as many instructions */
#else
#define STEPPED 4
#endif

static const struct ring_fixture_settings plain = {.ring_size = 8192,
                                                   .max_datagram = 200,
                                                   .relay_count = 3,
                                                   .decimate_count = 2,
                                                   .start_seq = 1000};

static const enum destination_use uses[] = {DESTINATION_IS_RELAY, DESTINATION_IS_DECIMATE};

/* What relay and decimator commit, once: of these first places the counters each has, plus `more`.
 */
static void commit_places(struct channel_page *page, enum destination_use use, uint32_t end,
                          const struct destination_progress *more)
{
    uint32_t places[CHANNEL_PLACES_MAX];
    struct destination_progress counts[CHANNEL_PLACES_MAX];
    struct destination_tally tally = {places, counts, 0};
    for (uint32_t i = 0; i < end; i++) {
        struct destination_progress *it = &counts[tally.count];
        if (atomic_load(&channel_page_place(page, i)->use) != (uint16_t)use)
            continue;
        ck_assert(channel_page_read_destination(page, i, it));
        it->sent += more->sent;
        it->dropped += more->dropped;
        it->repeated += more->repeated;
        places[tally.count++] = i;
    }
    if (use == DESTINATION_IS_RELAY)
        channel_page_write_relay(page, &(struct relay_progress){1000, 0, 0}, &tally);
    else
        channel_page_write_decimate(page, &(struct decimate_progress){1000, 0}, &tally);
}

static void commit(struct channel_page *page, enum destination_use use,
                   const struct destination_progress *more)
{
    commit_places(page, use, CHANNEL_PLACES_MAX, more);
}

/* A program of before there were sums. */
static void commit_without_sums(struct channel_page *page, enum destination_use use)
{
    commit_places(page, use, CHANNEL_DESTINATIONS_MAX, &(struct destination_progress){0});
}

struct sums {
    uint64_t relayed, relay_dropped, decimated, decimate_lost, repeated;
};

static struct sums sums_of(const struct channel_page *page, const struct ring_fixture *fixture)
{
    const struct channel_spec spec = {.relay_count = 3, .decimate_count = 2};
    struct counters counters;
    uint64_t pending;
    ck_assert(channel_page_counters(page, &spec, &fixture->geometry, &counters, &pending));
    return (struct sums){counters.value[COUNTER_relayed], counters.value[COUNTER_relay_dropped],
                         counters.value[COUNTER_decimated], counters.value[COUNTER_decimate_lost],
                         counters.value[COUNTER_relay_repeated]};
}

static void check_page(const struct channel_page *page, const struct ring_fixture *fixture,
                       const struct sums *expected)
{
    const char *what;
    if (channel_page_check(page, fixture->ring.descriptors, &fixture->geometry,
                           RING_FIXTURE_CHANNEL, &what) < 0)
        ck_abort_msg("the page is refused: %s", what);
    const struct sums sums = sums_of(page, fixture);
    if (memcmp(&sums, expected, sizeof sums) != 0)
        ck_abort_msg("relayed %llu, relay_dropped %llu, decimated %llu, decimate_lost %llu, "
                     "repeated %llu",
                     (unsigned long long)sums.relayed, (unsigned long long)sums.relay_dropped,
                     (unsigned long long)sums.decimated, (unsigned long long)sums.decimate_lost,
                     (unsigned long long)sums.repeated);
}

/* Whoever finds the page like this goes on: commits, gives up what is left, makes a new place. */
static void continue_it(struct channel_page *page, const struct ring_fixture *fixture,
                        const struct sums *expected)
{
    struct destination_progress counts;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++)
            commit(page, uses[i], &(struct destination_progress){0});
    check_page(page, fixture, expected);
    for (uint32_t place = 0; place < CHANNEL_DESTINATIONS_MAX; place++)
        if (atomic_load(&page->private.places[place].use) != DESTINATION_UNUSED)
            channel_page_give_up(page, place);
    check_page(page, fixture, expected);
    for (int i = 0; i < 2; i++) {
        int place = channel_page_place_destination(page, uses[i], "to-1", 1000);
        ck_assert_int_ge(place, 0);
        ck_assert(channel_page_read_destination(page, (uint32_t)place, &counts));
        ck_assert_uint_eq(counts.sent + counts.dropped + counts.repeated, 0);
        commit(page, uses[i], &(struct destination_progress){0});
    }
    check_page(page, fixture, expected);
}

/* Somebody comes before anything else is done. */
static void come(struct channel_page *page, uint32_t place)
{
    (void)place;
    ck_assert_int_ge(channel_page_place_destination(page, DESTINATION_IS_DECIMATE, "new", 1000), 0);
}

typedef void (*change)(struct channel_page *page, uint32_t place);

static pid_t start_stepped(const struct ring_fixture *fixture, change make, uint32_t place)
{
    int status;
    pid_t pid = unit_fork();
    if (pid == 0) { /* which has no map of the memory: such a map is not handed on */
        struct channel_page *page;
        if (channel_memory_map(&fixture->memory, &fixture->geometry, &page) < 0)
            _exit(1);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        make(page, place);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSTOPPED(status));
    return pid;
}

/* Another process changes the place, one instruction at a time. Returns how many different pages
 * were seen. */
static int change_by_steps(struct ring_fixture *fixture, change make, uint32_t place,
                           const struct sums *expected)
{
    static struct channel_page before, now;
    struct channel_page *page = fixture->ring.page;
    int status = 0, seen = 0;
    pid_t pid = start_stepped(fixture, make, place);
    memcpy(&before, page, sizeof before);
    for (;;) {
        ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status))
            break;
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
            ck_abort_msg("the stepped process has status 0x%x, after %d", status, seen);
        if (memcmp(&before, page, CHANNEL_PRIVATE_SIZE) == 0)
            continue;
        memcpy(&before, page, CHANNEL_PRIVATE_SIZE);
        memcpy(&now, page, sizeof now);
        check_page(&now, fixture, expected);
        come(&now, place);
        check_page(&now, fixture, expected);
        memcpy(&now, page, sizeof now);
        continue_it(&now, fixture, expected);
        seen++;
    }
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    return seen;
}

START_TEST(a_death_at_any_instruction_loses_no_count)
{
    struct ring_fixture fixture;
    struct destination_progress counts;
    ring_fixture_open(&fixture, &plain); /* relays to-0 to to-2, decimates to-3 and to-4 */
    struct channel_page *page = fixture.ring.page;
    commit(page, DESTINATION_IS_RELAY, &(struct destination_progress){7, 3, 2});
    commit(page, DESTINATION_IS_DECIMATE, &(struct destination_progress){50, 20, 10});
    const struct sums expected = {21, 9, 100, 40, 26};
    check_page(page, &fixture, &expected);

    /* The first of each use begins the sum, the second adds to it. */
    static const uint32_t places[] = {1, 3, 0, 4};
    for (int i = 0; i < 4; i++) {
        if (i < STEPPED)
            ck_assert_int_gt(change_by_steps(&fixture, channel_page_give_up, places[i], &expected),
                             10);
        else
            channel_page_give_up(page, places[i]);
        check_page(page, &fixture, &expected);
        ck_assert(!channel_page_read_destination(page, places[i], &counts));
    }
    ck_assert(
        channel_page_read_destination(page, channel_page_sum_place(DESTINATION_IS_RELAY), &counts));
    ck_assert_uint_eq(counts.sent, 14);
    ck_assert_int_eq(channel_page_find_destination(page, DESTINATION_IS_RELAY, ""), -1);
    ck_assert_int_eq(channel_page_find_destination(page, DESTINATION_IS_RELAY, "to-1"), -1);
    ck_assert_int_eq(channel_page_find_destination(page, DESTINATION_IS_RELAY, "to-2"), 2);
    ring_fixture_close(&fixture);
}
END_TEST

/* Programs without sums come in between, and flip this often. */
START_TEST(a_sum_that_was_left_behind_is_still_the_sum)
{
    struct ring_fixture fixture;
    const struct sums expected = {21, 9, 100, 40, 26};
    ring_fixture_open(&fixture, &plain);
    struct channel_page *page = fixture.ring.page;
    commit(page, DESTINATION_IS_RELAY, &(struct destination_progress){7, 3, 2});
    commit(page, DESTINATION_IS_DECIMATE, &(struct destination_progress){50, 20, 10});
    channel_page_give_up(page, 1);
    channel_page_give_up(page, 3);
    for (int i = 0; i < _i; i++) {
        commit_without_sums(page, DESTINATION_IS_RELAY);
        commit_without_sums(page, DESTINATION_IS_DECIMATE);
        check_page(page, &fixture, &expected);
    }
    if (_i + STEPPED > 4)
        ck_assert_int_gt(change_by_steps(&fixture, channel_page_give_up, 0, &expected), 10);
    else
        channel_page_give_up(page, 0);
    check_page(page, &fixture, &expected);
    for (int i = 0; i < _i; i++)
        commit_without_sums(page, DESTINATION_IS_DECIMATE);
    for (int i = 0; i < 3; i++) {
        commit(page, DESTINATION_IS_DECIMATE, &(struct destination_progress){0});
        check_page(page, &fixture, &expected);
    }
    ring_fixture_close(&fixture);
}
END_TEST

/* Its idle slot says what the one before has counted, under a version that is the new use's now. */
START_TEST(who_comes_to_a_place_that_was_given_up_inherits_nothing)
{
    struct ring_fixture fixture;
    const struct sums expected = {21, 9, 0, 0, 6};
    ring_fixture_open(&fixture, &plain);
    struct channel_page *page = fixture.ring.page;
    commit(page, DESTINATION_IS_RELAY, &(struct destination_progress){7, 3, 2});
    channel_page_give_up(page, 0);
    while (atomic_load(&page->private.decimate_version) + 1 !=
           atomic_load(&page->private.relay_version))
        commit(page, DESTINATION_IS_DECIMATE, &(struct destination_progress){0});
    ck_assert_int_gt(change_by_steps(&fixture, come, 0, &expected), 5);
    check_page(page, &fixture, &expected);
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(a_sum_that_vanished_or_changed_sides_is_noticed)
{
    struct ring_fixture fixture;
    const char *what;
    ring_fixture_open(&fixture, &plain);
    struct channel_page *page = fixture.ring.page;
    commit(page, DESTINATION_IS_RELAY, &(struct destination_progress){7, 3, 2});
    channel_page_give_up(page, 0);
    for (uint16_t bit = 1; bit != 0; bit = (uint16_t)(bit << 1)) {
        atomic_fetch_xor(&page->sums[0].use, bit);
        ck_assert_int_lt(channel_page_check(page, fixture.ring.descriptors, &fixture.geometry,
                                            RING_FIXTURE_CHANNEL, &what),
                         0);
        atomic_fetch_xor(&page->sums[0].use, bit);
    }
    ring_fixture_close(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel_page_places");
    TCase *places = tcase_create("places");
    tcase_set_timeout(places, 120);
    tcase_add_test(places, a_death_at_any_instruction_loses_no_count);
    tcase_add_loop_test(places, a_sum_that_was_left_behind_is_still_the_sum, 0, 5);
    tcase_add_test(places, who_comes_to_a_place_that_was_given_up_inherits_nothing);
    tcase_add_test(places, a_sum_that_vanished_or_changed_sides_is_noticed);
    suite_add_tcase(suite, places);
    return unit_run(suite);
}
