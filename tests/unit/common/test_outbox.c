/* SPDX-License-Identifier: MIT */
/* Both sides of an outbox: what is committed comes once and as it is, there is room when the worker
 * says so, each side wakes the other when it is asked to, and nonsense is refused before it leads
 * anywhere. The sanitizers see every byte outside. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/outbox.h"
#include "tests/lib/outbox_fixture.h"
#include "tests/lib/unit.h"

#define CAPACITY OUTBOX_FIXTURE_CAPACITY
#define MAX      OUTBOX_FIXTURE_MAX

static struct outbox_fixture box;
static struct outbox_map map; /* the publisher's */
static struct outbox_producer producer;
static const char *what;

static void setup(void)
{
    outbox_fixture_make(&box, 1, true);
    ck_assert_int_eq(outbox_map(box.box, box.lent_answer, OUTBOX_PUBLISHER, &map), 0);
    outbox_producer_open(&producer, &map);
}

static void teardown(void)
{
    outbox_unmap(&map);
    outbox_fixture_free(&box);
}

static int put(uint32_t length, uint8_t fill)
{
    void *room;
    bool call;
    int result = outbox_reserve(&producer, length, &room);
    if (result < 0)
        return result;
    memset(room, fill, length);
    return outbox_commit(&producer, length, 1000 + fill, &call);
}

static void expect(uint32_t length, uint8_t fill)
{
    uint8_t bytes[MAX], expected[MAX];
    memset(expected, fill, sizeof expected);
    ck_assert_int_eq(outbox_fixture_take(&box, bytes, sizeof bytes), length);
    ck_assert(memcmp(bytes, expected, length) == 0);
}

static void expect_nothing(void)
{
    uint8_t bytes[MAX];
    ck_assert_int_eq(outbox_fixture_take(&box, bytes, sizeof bytes), -1);
}

/* ---- there and back ---- */

START_TEST(every_length_and_every_place_comes_back)
{
    unsigned seed = 1;
    for (int i = 0; i < 5000; i++) { /* many times round, across the end at every offset */
        const uint32_t length = i < 20 ? (uint32_t)i : (uint32_t)rand_r(&seed) % (MAX + 1);
        ck_assert_int_eq(put(length, (uint8_t)i), 0);
        expect(length, (uint8_t)i);
    }
    expect_nothing();
}
END_TEST

START_TEST(a_full_box_says_so_and_has_room_again)
{
    uint64_t count = 0, taken = 0;
    while (put(1000, (uint8_t)count) == 0)
        count++;
    ck_assert_uint_eq(count, CAPACITY / outbox_record_size(1000));
    ck_assert_int_eq(put(1000, 0), -EAGAIN);
    ck_assert_int_eq(put(0, 0), 0); /* what is small may still fit */
    for (; taken < count; taken++)
        expect(1000, (uint8_t)taken);
    expect(0, 0);
    ck_assert_int_eq(put(1000, 7), 0);
    expect(1000, 7);
}
END_TEST

START_TEST(it_may_be_filled_to_the_last_byte)
{
    const uint32_t length = 1024 - sizeof(struct outbox_record);
    for (unsigned i = 0; i < CAPACITY / 1024; i++)
        ck_assert_int_eq(put(length, (uint8_t)i), 0);
    ck_assert_int_eq(put(0, 0), -EAGAIN);
    for (unsigned i = 0; i < CAPACITY / 1024; i++)
        expect(length, (uint8_t)i);
    expect_nothing();
}
END_TEST

START_TEST(less_than_was_reserved_may_be_committed)
{
    void *first, *second;
    bool call;
    ck_assert_int_eq(outbox_reserve(&producer, MAX, &first), 0);
    memset(first, 9, MAX);
    ck_assert_int_eq(outbox_commit(&producer, 3, 1, &call), 0);
    ck_assert_int_eq(outbox_reserve(&producer, 1, &second), 0);
    ck_assert_ptr_eq(second, (uint8_t *)first + 8 + sizeof(struct outbox_record));
    outbox_abort(&producer);
    ck_assert_int_eq(outbox_commit(&producer, 0, 1, &call), -EINVAL);
    expect(3, 9);
    expect_nothing(); /* an open or dropped reservation is nothing */
}
END_TEST

START_TEST(what_cannot_be_committed_is_refused)
{
    void *room;
    bool call;
    ck_assert_int_eq(outbox_commit(&producer, 0, 1, &call), -EINVAL);
    ck_assert_int_eq(outbox_reserve(&producer, MAX + 1, &room), -EMSGSIZE);
    ck_assert_int_eq(outbox_commit(&producer, 0, 1, &call), -EINVAL);
    ck_assert_int_eq(outbox_reserve(&producer, 10, &room), 0);
    ck_assert_int_eq(outbox_commit(&producer, 11, 1, &call), -EINVAL);
    ck_assert_int_eq(outbox_commit(&producer, 10, 1, &call), 0);
    ck_assert_int_eq(outbox_commit(&producer, 10, 1, &call), -EINVAL);
}
END_TEST

/* ---- waking ---- */

START_TEST(a_worker_is_called_when_it_sleeps)
{
    void *room;
    bool call;
    for (int asleep = 0; asleep < 2; asleep++) {
        atomic_store(&box.map.answer->asleep, (uint32_t)asleep);
        ck_assert_int_eq(outbox_reserve(&producer, 1, &room), 0);
        ck_assert_int_eq(outbox_commit(&producer, 1, 1, &call), 0);
        ck_assert_int_eq(call, asleep);
    }
}
END_TEST

static bool take_and_release(void)
{
    struct outbox_taken taken;
    ck_assert_int_ge(outbox_look(&box.consumer, &what), 0);
    ck_assert_int_eq(outbox_take(&box.consumer, INT64_MAX, &taken, &what), 1);
    return outbox_release(&box.consumer, ++box.taken);
}

START_TEST(a_full_publisher_is_told_once_when_half_is_free)
{
    int rings = 0;
    uint64_t rung_at = 0;
    while (put(1000, 0) == 0)
        ;
    for (uint64_t i = 1; i <= CAPACITY / outbox_record_size(1000); i++)
        if (take_and_release()) {
            rings++;
            rung_at = box.consumer.at;
        }
    ck_assert_int_eq(rings, 1);
    ck_assert_uint_ge(rung_at, CAPACITY / 2 - 2 * outbox_record_size(1000));
    ck_assert_uint_le(rung_at, CAPACITY / 2 + outbox_record_size(1000));
}
END_TEST

START_TEST(what_is_durable_is_told_when_it_is_wanted)
{
    ck_assert(!outbox_say_durable(&box.consumer, 3));
    atomic_store(&map.head->wants_durable, 5);
    ck_assert(!outbox_say_durable(&box.consumer, 4));
    ck_assert(outbox_say_durable(&box.consumer, 6));
    ck_assert(!outbox_say_durable(&box.consumer, 7)); /* that was told */
    ck_assert(!outbox_say_durable(&box.consumer, 5)); /* it never goes back */
    ck_assert_uint_eq(atomic_load(&map.answer->durable), 7);
}
END_TEST

/* ---- times ---- */

START_TEST(times_are_within_what_can_be_true)
{
    static const struct {
        int64_t said, now, taken;
    } cases[] = {{500, 1000, 500},        {400, 1000, 500},   {INT64_MAX, 1000, 1000},
                 {INT64_MIN, 1100, 1000}, {1050, 1100, 1050}, {1080, 1060, 1060}};
    void *room;
    bool call;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outbox_taken taken;
        ck_assert_int_eq(outbox_reserve(&producer, 1, &room), 0);
        ck_assert_int_eq(outbox_commit(&producer, 1, cases[i].said, &call), 0);
        ck_assert_int_eq(outbox_look(&box.consumer, &what), 1);
        ck_assert_int_eq(outbox_take(&box.consumer, cases[i].now, &taken, &what), 1);
        ck_assert_int_eq(taken.time_ns, cases[i].taken);
    }
}
END_TEST

/* ---- nonsense ---- */

START_TEST(a_position_that_cannot_be_is_refused)
{
    ck_assert_int_eq(put(100, 1), 0);
    const uint64_t committed = atomic_load(&map.head->committed);
    const uint64_t nonsense[] = {committed + 1, CAPACITY + 8,  UINT64_MAX, UINT64_MAX - 7,
                                 1ull << 63,    committed - 4, 1};
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        struct outbox_consumer consumer = box.consumer;
        atomic_store(&map.head->committed, nonsense[i]);
        ck_assert_int_eq(outbox_look(&consumer, &what), -EBADMSG);
        ck_assert_str_ne(what, "");
    }
    atomic_store(&map.head->committed, committed);
    ck_assert_int_eq(outbox_look(&box.consumer, &what), 1);
    atomic_store(&map.head->committed, 0); /* less than was seen */
    ck_assert_int_eq(outbox_look(&box.consumer, &what), -EBADMSG);
}
END_TEST

START_TEST(a_length_that_cannot_be_is_refused)
{
    const uint32_t nonsense[] = {101 + 8, MAX + 1, UINT32_MAX, UINT32_MAX - 15, 1u << 31, MAX};
    ck_assert_int_eq(put(100, 1), 0); /* of 104 with its padding */
    ck_assert_int_eq(outbox_look(&box.consumer, &what), 1);
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        struct outbox_consumer consumer = box.consumer;
        struct outbox_taken taken;
        atomic_store(&((struct outbox_record *)map.records)->length, nonsense[i]);
        ck_assert_int_eq(outbox_take(&consumer, INT64_MAX, &taken, &what), -EBADMSG);
        ck_assert_uint_eq(consumer.at, 0);
    }
    /* A tail that is shorter than a record's head. */
    atomic_store(&((struct outbox_record *)map.records)->length, 96);
    struct outbox_taken taken;
    ck_assert_int_eq(outbox_take(&box.consumer, INT64_MAX, &taken, &what), 1);
    memset(map.records + box.consumer.at, 0, sizeof(struct outbox_record));
    ck_assert_int_eq(outbox_take(&box.consumer, INT64_MAX, &taken, &what), -EBADMSG);
}
END_TEST

START_TEST(wishes_that_cannot_be_wake_nobody_often)
{
    int rings = 0;
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(put(10, 1), 0);
        atomic_store(&map.head->wants_room, (uint64_t)i % 2);
        rings += take_and_release();
    }
    ck_assert_int_le(rings, 1000); /* one for each release at most, and nothing is followed */
    atomic_store(&map.head->wants_room, 0);
    ck_assert_int_eq(put(10, 1), 0);
    take_and_release();
    ck_assert_int_eq(put(10, 1), 0);
    ck_assert(!take_and_release());
}
END_TEST

START_TEST(an_answer_makes_no_room_where_there_is_none)
{
    while (put(1000, 0) == 0)
        ;
    const uint64_t nonsense[] = {UINT64_MAX, producer.committed + 8, 1ull << 63};
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        atomic_store(&box.map.answer->taken, nonsense[i]);
        ck_assert_int_eq(put(1000, 0), -EAGAIN);
    }
}
END_TEST

/* ---- files ---- */

static int memory(uint64_t size, int seals)
{
    int fd = memfd_create("box", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

START_TEST(files_that_are_no_outbox_are_refused)
{
    const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    struct outbox_map other;
    int fds[] = {memory(OUTBOX_HEAD_SIZE + CAPACITY, F_SEAL_SHRINK), /* could still change */
                 memory(OUTBOX_HEAD_SIZE + CAPACITY - 4096, all), memory(4096, all),
                 memory(OUTBOX_HEAD_SIZE + 2 * CAPACITY, all)};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        ck_assert_int_eq(outbox_map(fds[i], box.answer, OUTBOX_WORKER, &other), -EBADMSG);
        ck_assert_ptr_null(other.head);
        ck_assert_int_eq(outbox_map(box.box, fds[i], OUTBOX_WORKER, &other), -EBADMSG);
        ck_assert_ptr_null(other.answer);
    }
    const uint64_t capacities[] = {0, CAPACITY + 4096, CAPACITY / 2, UINT64_MAX, 1ull << 63};
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        box.map.answer->capacity = capacities[i];
        ck_assert_int_eq(outbox_map(box.box, box.answer, OUTBOX_WORKER, &other), -EBADMSG);
    }
    box.map.answer->capacity = CAPACITY;
    box.map.answer->max_datagram = (uint32_t)CAPACITY;
    ck_assert_int_eq(outbox_map(box.box, box.answer, OUTBOX_WORKER, &other), -EBADMSG);
    box.map.answer->max_datagram = MAX;
    box.map.answer->magic++;
    ck_assert_int_eq(outbox_map(box.box, box.answer, OUTBOX_WORKER, &other), -EBADMSG);
    box.map.answer->magic--;
    ck_assert_int_eq(outbox_map(box.box, box.answer, OUTBOX_WORKER, &other), 0);
    outbox_unmap(&other);
    fd_close_all(fds, sizeof fds / sizeof *fds);
}
END_TEST

START_TEST(a_size_becomes_a_power_of_two)
{
    ck_assert_uint_eq(outbox_capacity(0), CHANNEL_OUTBOX_SIZE_MIN);
    ck_assert_uint_eq(outbox_capacity(CHANNEL_OUTBOX_SIZE_MIN + 1), 2 * CHANNEL_OUTBOX_SIZE_MIN);
    ck_assert_uint_eq(outbox_capacity(1 << 20), 1 << 20);
    ck_assert_uint_eq(outbox_capacity(UINT64_MAX), CHANNEL_OUTBOX_SIZE_MAX);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {every_length_and_every_place_comes_back,
                                  a_full_box_says_so_and_has_room_again,
                                  it_may_be_filled_to_the_last_byte,
                                  less_than_was_reserved_may_be_committed,
                                  what_cannot_be_committed_is_refused,
                                  a_worker_is_called_when_it_sleeps,
                                  a_full_publisher_is_told_once_when_half_is_free,
                                  what_is_durable_is_told_when_it_is_wanted,
                                  times_are_within_what_can_be_true,
                                  a_position_that_cannot_be_is_refused,
                                  a_length_that_cannot_be_is_refused,
                                  wishes_that_cannot_be_wake_nobody_often,
                                  an_answer_makes_no_room_where_there_is_none,
                                  files_that_are_no_outbox_are_refused,
                                  a_size_becomes_a_power_of_two};
    Suite *suite = suite_create("outbox");
    TCase *part = tcase_create("outbox");
    tcase_add_checked_fixture(part, setup, teardown);
    tcase_set_timeout(part, 60);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(part, tests[i]);
    suite_add_tcase(suite, part);
    return unit_run(suite);
}
