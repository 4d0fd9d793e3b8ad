/* SPDX-License-Identifier: MIT */
/* The gate's threads, and jobs that wait for a disk until the test lets them go: one dead disk, one
 * greedy user and those who leave hold up nobody else. */
#include <check.h>
#include <poll.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/unit.h"
#include "worker/gate/gate_pool.h"

#define DEADLINE_MS 20000

static struct gate_pool pool;
static sem_t disk; /* each job of a dead place waits for it */

struct test_job {
    struct gate_job job; /* first */
    char name;
};

static char order[64]; /* the names of what was run, by one thread at a time */
static _Atomic unsigned begun;

static void run_waiting(struct gate_job *job)
{
    (void)job;
    begun++;
    sem_wait(&disk);
}

static void run_noting(struct gate_job *job)
{
    order[begun++] = ((struct test_job *)job)->name;
}

static void begin(unsigned threads)
{
    ck_assert_int_eq(sem_init(&disk, 0, 0), 0);
    ck_assert_int_eq(gate_pool_open(&pool, threads), 0);
}

static struct gate_job *submit(void run(struct gate_job *), unsigned *place, uint64_t *turn,
                               char name)
{
    struct test_job *it = calloc(1, sizeof *it);
    it->job.run = run;
    it->job.place_busy = place;
    it->name = name;
    ck_assert(gate_pool_submit(&pool, &it->job, turn));
    return &it->job;
}

/* Until so many have come back. */
static void await(unsigned count)
{
    struct pollfd bell = {.fd = pool.bell, .events = POLLIN};
    while (count > 0) {
        ck_assert_msg(poll(&bell, 1, DEADLINE_MS) == 1, "%u more should come back", count);
        for (struct gate_job *next, *job = gate_pool_take(&pool); job; job = next) {
            next = job->next;
            free(job);
            count--;
        }
    }
}

static void await_begun(unsigned count)
{
    while (begun < count)
        poll(NULL, 0, 1); /* the test's own deadline ends it */
}

START_TEST(a_place_never_has_all_threads)
{
    static unsigned dead;
    begin(3);
    for (int i = 0; i < 10; i++)
        submit(run_waiting, &dead, NULL, 'd');
    await_begun(2);
    submit(run_noting, NULL, NULL, 'a');
    await(1);
    for (int i = 0; i < 10; i++)
        sem_post(&disk);
    await(10);
}
END_TEST

/* Who leaves while his place is held up takes no room from others. */
START_TEST(what_nobody_waits_for_does_not_fill_the_queue)
{
    static unsigned dead;
    begin(2);
    submit(run_waiting, &dead, NULL, 'd');
    await_begun(1);
    for (int i = 0; i < 2 * GATE_POOL_JOBS_MAX; i++) {
        gate_pool_forsake(&pool, submit(run_waiting, &dead, NULL, 'd'));
        if (i % 100 == 99)
            await(100);
    }
    ck_assert_uint_eq(begun, 1); /* none of them was run */
    sem_post(&disk);
    await(1 + 2 * GATE_POOL_JOBS_MAX % 100);
}
END_TEST

/* However much one has asked for before the other came. */
START_TEST(who_wants_much_waits_behind_himself)
{
    uint64_t greedy = 0, modest = 0;
    begin(1);
    submit(run_waiting, NULL, &greedy, 'd');
    await_begun(1);
    begun = 0;
    for (int i = 0; i < 6; i++)
        submit(run_noting, NULL, &greedy, 'g');
    submit(run_noting, NULL, &modest, 'm');
    submit(run_noting, NULL, &modest, 'm');
    sem_post(&disk);
    await(9);
    ck_assert_str_eq(order, "gmgmgggg");
}
END_TEST

/* Nor has he been put at a disadvantage once they are done. */
START_TEST(what_one_had_before_is_forgotten)
{
    uint64_t greedy = 0, modest = 0;
    begin(1);
    for (int i = 0; i < 6; i++)
        submit(run_noting, NULL, &greedy, 'g');
    await(6);
    submit(run_waiting, NULL, NULL, 'd');
    await_begun(7);
    begun = 0;
    submit(run_noting, NULL, &greedy, 'G');
    submit(run_noting, NULL, &modest, 'M');
    sem_post(&disk);
    await(3);
    ck_assert_msg(strncmp(order, "GM", 2) == 0, "%s", order);
}
END_TEST

/* The only thread is held up. */
START_TEST(nor_where_all_threads_are_held_up)
{
    begin(1);
    submit(run_waiting, NULL, NULL, 'd');
    await_begun(1);
    for (int i = 0; i < 100; i++)
        gate_pool_forsake(&pool, submit(run_waiting, NULL, NULL, 'd'));
    await(100);
    sem_post(&disk);
    await(1);
}
END_TEST

/* What he wants elsewhere is done at once, and puts nobody behind what he wants here. */
START_TEST(who_wants_much_waits_behind_himself_also_with_two_places)
{
    static unsigned slow, fast;
    uint64_t greedy = 0, modest = 0;
    begin(2);
    submit(run_waiting, &slow, &greedy, 'd');
    await_begun(1);
    for (int i = 0; i < 6; i++)
        submit(run_noting, &slow, &greedy, 'g');
    submit(run_noting, &fast, &greedy, 'x');
    await(1); /* the second thread */
    begun = 0;
    submit(run_noting, &slow, &modest, 'm');
    sem_post(&disk);
    await(8);
    ck_assert_msg(order[0] == 'm' || order[1] == 'm', "%s", order);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gate_pool");
    TCase *part = tcase_create("pool");
    tcase_set_timeout(part, 60);
    tcase_add_test(part, a_place_never_has_all_threads);
    tcase_add_test(part, what_nobody_waits_for_does_not_fill_the_queue);
    tcase_add_test(part, who_wants_much_waits_behind_himself);
    tcase_add_test(part, what_one_had_before_is_forgotten);
    tcase_add_test(part, nor_where_all_threads_are_held_up);
    tcase_add_test(part, who_wants_much_waits_behind_himself_also_with_two_places);
    suite_add_tcase(suite, part);
    return unit_run(suite);
}
