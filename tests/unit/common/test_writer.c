/* SPDX-License-Identifier: MIT */
/* A writer keeps its promises whatever ends meanwhile: what was committed comes once and in order,
 * nothing waits, and its descriptor tells when there is something to do. The test is the channel's
 * worker; a fake gate hands out real outboxes. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/monotonic.h"
#include "tests/lib/fake_gate.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/outbox_fixture.h"
#include "tests/lib/unit.h"

#define DEADLINE_MS 20000
#define BOXES       64

static struct fake_gate gate;
static struct outbox_fixture boxes[BOXES];
static int box_count; /* the last one of them is the present one */
static hf *handle;
static hf_writer *writer;
static uint32_t committed, taken; /* datagrams, each of which begins with its number */

static struct outbox_fixture *box(void)
{
    return &boxes[box_count - 1];
}

/* The gate hands out another one from now on. */
static void offer(bool records)
{
    struct outbox_fixture *fixture = &boxes[box_count++];
    ck_assert_int_le(box_count, BOXES);
    outbox_fixture_make(fixture, (uint64_t)box_count, records);
    pthread_mutex_lock(&gate.lock);
    gate.outbox = fixture;
    gate.publish_error = 0;
    pthread_mutex_unlock(&gate.lock);
}

static void refuse_all(int error)
{
    pthread_mutex_lock(&gate.lock);
    gate.publish_error = error;
    pthread_mutex_unlock(&gate.lock);
}

static void setup(void)
{
    box_count = 0;
    committed = taken = 0;
    fake_gate_start(&gate);
    offer(true);
    ck_assert_int_eq(hf_open(&handle, gate.socket), 0);
    ck_assert_int_eq(hf_publish(handle, "engine", &writer), 0);
}

static void teardown(void)
{
    hf_close(handle);      /* and the writer with it */
    fake_gate_stop(&gate); /* which has the outboxes, too */
    for (int i = 0; i < box_count; i++)
        outbox_fixture_free(&boxes[i]);
}

/* The daemon ends: what it has not taken stays where it is. */
static void let_go(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.outbox = NULL;
    outbox_fixture_free(box());
    pthread_mutex_unlock(&gate.lock);
}

static uint32_t length_of(uint32_t number)
{
    return 4 + number * 37 % 900;
}

/* The next one. */
static int publish(void)
{
    void *room;
    const uint32_t length = length_of(committed);
    int result = hf_reserve(writer, length + committed % 3, &room);
    if (result < 0)
        return result;
    memset(room, (int)(committed & 255), length);
    memcpy(room, &committed, sizeof committed);
    result = hf_commit(writer, length);
    if (result == 0)
        committed++;
    return result;
}

static void publish_some(int count)
{
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(publish(), 0);
}

static void publish_all_that_fits(void)
{
    int result;
    while ((result = publish()) == 0)
        ;
    ck_assert_int_eq(result, -EAGAIN);
}

/* false: nothing is there. What is there is the next one. */
static bool take(void)
{
    uint8_t bytes[OUTBOX_FIXTURE_MAX];
    uint32_t number;
    int64_t length = outbox_fixture_take(box(), bytes, sizeof bytes);
    if (length < 0)
        return false;
    ck_assert_int_eq(length, length_of(taken));
    memcpy(&number, bytes, sizeof number);
    ck_assert_uint_eq(number, taken);
    for (uint32_t i = sizeof number; i < length; i++)
        ck_assert_uint_eq(bytes[i], taken & 255);
    taken++;
    return true;
}

static void take_some(int count)
{
    for (int i = 0; i < count; i++)
        ck_assert(take());
}

static void take_all(void)
{
    while (take())
        ;
}

static bool is_readable(int timeout_ms)
{
    struct pollfd fd = {.fd = hf_writer_fd(writer), .events = POLLIN};
    return poll(&fd, 1, timeout_ms) == 1;
}

/* As a program in its poll loop, which has nothing to publish just now. */
static void go_round(void)
{
    ck_assert(is_readable(DEADLINE_MS));
    ck_assert_int_eq(hf_wait_durable(writer, 0, 0), 0);
}

static void go_round_if_readable(void)
{
    if (is_readable(20))
        ck_assert_int_eq(hf_wait_durable(writer, 0, 0), 0);
}

/* Until the writer has asked for another box and got it. */
static void await_box(void)
{
    const monotonic begun = monotonic_now();
    for (;;) {
        pthread_mutex_lock(&gate.lock);
        const bool is_lent = !gate.outbox;
        pthread_mutex_unlock(&gate.lock);
        if (is_lent && !is_readable(0))
            return;
        ck_assert_msg(monotonic_since(monotonic_now(), begun) < DEADLINE_MS * NS_PER_MS,
                      "it does not connect again");
        if (is_readable(10))
            ck_assert_int_eq(hf_wait_durable(writer, 0, 0), 0);
    }
}

/* Until hf_reserve says so. */
static void await_reserve(int expected)
{
    const monotonic begun = monotonic_now();
    void *room;
    int result;
    while ((result = hf_reserve(writer, 4, &room)) != expected) {
        hf_abort(writer);
        ck_assert_msg(monotonic_since(monotonic_now(), begun) < DEADLINE_MS * NS_PER_MS,
                      "hf_reserve: %d, not %d", result, expected);
        is_readable(50);
    }
    hf_abort(writer);
}

/* Everything that was committed, over as many turns as it takes. */
static void take_until_all(void)
{
    const monotonic begun = monotonic_now();
    while (taken < committed) {
        take_all();
        ck_assert_msg(monotonic_since(monotonic_now(), begun) < DEADLINE_MS * NS_PER_MS,
                      "%u of %u came", taken, committed);
        if (is_readable(10))
            ck_assert_int_eq(hf_wait_durable(writer, 0, 0), 0);
    }
    ck_assert(!take());
}

/* ---- publishing ---- */

START_TEST(what_is_committed_comes_as_it_is)
{
    void *room;
    publish_some(20);
    take_all();
    ck_assert_uint_eq(taken, 20);
    ck_assert_int_eq(hf_reserve(writer, 100, &room), 0);
    hf_abort(writer);
    ck_assert_int_eq(hf_commit(writer, 100), -EINVAL); /* it was dropped */
    ck_assert_int_eq(hf_reserve(writer, 100, &room), 0);
    ck_assert_int_eq(hf_commit(writer, 101), -EINVAL);
    ck_assert_int_eq(hf_reserve(writer, 100, &room), 0); /* takes its place */
    ck_assert_int_eq(hf_commit(writer, 0), 0);
    uint8_t bytes[OUTBOX_FIXTURE_MAX];
    ck_assert_int_eq(outbox_fixture_take(box(), bytes, sizeof bytes), 0);
    ck_assert_int_eq(outbox_fixture_take(box(), bytes, sizeof bytes), -1);
}
END_TEST

START_TEST(a_datagram_has_a_longest_length)
{
    void *room;
    ck_assert_uint_eq(hf_writer_limit(writer), OUTBOX_FIXTURE_MAX);
    ck_assert_int_eq(hf_reserve(writer, OUTBOX_FIXTURE_MAX + 1, &room), -EMSGSIZE);
    ck_assert_int_eq(hf_reserve(writer, UINT32_MAX, &room), -EMSGSIZE);
    ck_assert_int_eq(hf_reserve(writer, OUTBOX_FIXTURE_MAX, &room), 0);
    memset(room, 1, OUTBOX_FIXTURE_MAX);
    ck_assert_int_eq(hf_commit(writer, OUTBOX_FIXTURE_MAX), 0);
}
END_TEST

START_TEST(a_full_outbox_says_so_and_then_that_there_is_room)
{
    publish_all_that_fits();
    ck_assert(!is_readable(0));
    ck_assert_int_eq(publish(), -EAGAIN);
    ck_assert(!is_readable(0));
    while (!is_readable(0))
        take_some(1);
    ck_assert_uint_lt(taken, committed); /* not only when all is taken */
    publish_some(10);
    ck_assert(!is_readable(0)); /* nothing more to tell */
    publish_all_that_fits();
    take_until_all();
}
END_TEST

/* The bell is heard by whatever is called first: that must not keep it from who waits for it. */
START_TEST(room_is_told_whatever_was_asked_for_meanwhile)
{
    publish_all_that_fits();
    take_all();
    ck_assert_int_eq(hf_wait_durable(writer, 1, 0), -ETIMEDOUT);
    ck_assert_uint_eq(hf_writer_untaken(writer), 0);
    ck_assert(is_readable(DEADLINE_MS));
    publish_some(1);
    ck_assert(!is_readable(0));
    publish_all_that_fits();
    take_until_all(); /* hears it, and publishes nothing */
    go_round_if_readable();
    ck_assert(!is_readable(20));
}
END_TEST

/* A child of the program's keeps all descriptors of the writer open. */
START_TEST(a_child_of_the_program_does_not_keep_the_end_readable)
{
    publish_some(3);
    pid_t child = fork();
    if (child == 0) {
        outbox_fixture_free(box()); /* the daemon's end is the daemon's alone */
        pause();
        _exit(0);
    }
    ck_assert_int_gt(child, 0);
    take_all();
    let_go();
    offer(true);
    go_round();
    await_box();
    const bool is_still_readable = is_readable(0);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    ck_assert(!is_still_readable);
    publish_some(3);
    take_until_all();
}
END_TEST

START_TEST(a_closed_writer_has_ended_though_a_child_lives)
{
    publish_some(3);
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    ck_assert_int_gt(child, 0);
    writer = hf_writer_close(writer);
    struct pollfd bell = {.fd = box()->bell};
    const int ended = poll(&bell, 1, 2000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    ck_assert_int_eq(ended, 1);
    ck_assert(bell.revents & POLLHUP);
}
END_TEST

START_TEST(a_worker_is_called_only_when_it_sleeps)
{
    publish_some(3);
    ck_assert_int_eq(outbox_fixture_calls(box()), 0);
    atomic_store(&box()->map.answer->asleep, 1);
    publish_some(1);
    ck_assert_int_eq(outbox_fixture_calls(box()), 1);
    atomic_store(&box()->map.answer->asleep, 0);
    publish_some(1);
    ck_assert_int_eq(outbox_fixture_calls(box()), 0);
    take_until_all();
}
END_TEST

START_TEST(the_death_of_the_gate_is_not_noticed)
{
    publish_some(5);
    fake_gate_kill(&gate);
    publish_some(5);
    ck_assert(!is_readable(0));
    take_until_all();
    ck_assert_uint_eq(fake_gate_count(&gate, READ_PUBLISH), 1);
}
END_TEST

START_TEST(a_closed_writer_leaves_what_it_has_committed)
{
    const int before = unit_count_fds();
    void *room;
    publish_some(7);
    ck_assert_int_eq(hf_reserve(writer, 10, &room), 0);
    ck_assert_ptr_null(hf_writer_close(writer));
    ck_assert_ptr_null(hf_writer_close(NULL));
    ck_assert_int_eq(unit_count_fds(), before - 4); /* epoll, timer, bell, call */
    take_all();
    ck_assert_uint_eq(taken, 7);
    struct pollfd bell = {.fd = box()->bell, .events = 0};
    ck_assert_int_eq(poll(&bell, 1, DEADLINE_MS), 1);
    ck_assert(bell.revents & POLLHUP);
}
END_TEST

/* ---- the daemon ends ---- */

START_TEST(what_nobody_has_taken_is_carried_over)
{
    publish_some(20);
    take_some(8);
    let_go();
    offer(true);
    go_round();
    await_box();
    publish_some(5);
    take_until_all();
    ck_assert_uint_eq(taken, 25);
    ck_assert_uint_eq(fake_gate_count(&gate, READ_PUBLISH), 2);
}
END_TEST

START_TEST(publishing_goes_on_without_a_daemon_until_it_is_full)
{
    publish_some(20);
    take_some(20);
    let_go();
    publish_some(20);
    publish_all_that_fits();
    const uint32_t full = committed;
    ck_assert_int_eq(publish(), -EAGAIN);
    offer(true);
    await_box();
    take_until_all();
    ck_assert_uint_eq(taken, full);
    publish_some(20);
    take_until_all();
}
END_TEST

START_TEST(a_slow_publisher_notices_by_itself)
{
    publish_some(3);
    take_some(1);
    let_go();
    offer(true);
    const monotonic begun = monotonic_now();
    while (fake_gate_count(&gate, READ_PUBLISH) < 2) { /* without a look at its descriptor */
        publish_some(1);
        poll(NULL, 0, 30);
        ck_assert(monotonic_since(monotonic_now(), begun) < DEADLINE_MS * NS_PER_MS);
    }
    await_box();
    take_until_all();
}
END_TEST

START_TEST(a_box_that_ends_while_it_is_filled_leaves_nothing_out)
{
    publish_all_that_fits();
    take_some(3);
    for (int i = 0; i < 20; i++) { /* each of them gets all that is left, and gives a part */
        let_go();
        offer(true);
        await_box();
        take_some(i % 4);
    }
    publish_some(1);
    take_until_all();
}
END_TEST

START_TEST(a_reservation_outlives_its_outbox)
{
    void *room;
    publish_some(3);
    take_some(1);
    const uint32_t length = length_of(committed);
    ck_assert_int_eq(hf_reserve(writer, length, &room), 0);
    let_go();
    offer(true);
    go_round();
    await_box();
    ck_assert(!is_readable(0));
    memset(room, (int)(committed & 255), length);
    memcpy(room, &committed, sizeof committed);
    ck_assert_int_eq(hf_commit(writer, length), 0);
    committed++;
    publish_some(3);
    take_until_all();
    ck_assert_uint_eq(taken, 7);
}
END_TEST

START_TEST(another_outbox_may_end_beside_a_reservation)
{
    void *room;
    publish_some(3);
    ck_assert_int_eq(hf_reserve(writer, 8, &room), 0);
    let_go();
    for (int i = 0; i < 2; i++) {
        offer(true);
        await_box();
        let_go();
        go_round();
    }
    offer(true);
    await_box();
    hf_abort(writer);
    publish_some(1);
    take_until_all();
    ck_assert_uint_eq(taken, 4);
}
END_TEST

START_TEST(one_that_says_it_has_ended_is_believed)
{
    publish_some(4);
    take_some(2);
    atomic_store(&box()->map.answer->state, OUTBOX_ENDED); /* its bell is kept by somebody */
    outbox_fixture_ring(box());
    offer(true);
    go_round();
    await_box();
    take_until_all();
    ck_assert_uint_eq(taken, 4);
}
END_TEST

START_TEST(a_channel_that_is_gone_is_told_and_tried_again)
{
    publish_some(3);
    refuse_all(ENOENT);
    let_go();
    await_reserve(-ENOENT);
    ck_assert_int_eq(hf_wait_durable(writer, 3, 100), -ENOENT);
    refuse_all(EACCES);
    await_reserve(-EACCES);
    offer(true);
    await_reserve(0);
    publish_some(3);
    take_until_all();
    ck_assert_uint_eq(taken, 6);
}
END_TEST

START_TEST(who_is_cut_off_stays_so)
{
    void *room;
    publish_some(3);
    atomic_store(&box()->map.answer->state, OUTBOX_CUT_OFF);
    let_go();
    offer(true);
    await_reserve(-ECONNABORTED);
    ck_assert(!is_readable(0));
    ck_assert_int_eq(hf_reserve(writer, 1, &room), -ECONNABORTED);
    ck_assert_int_eq(hf_commit(writer, 1), -ECONNABORTED);
    ck_assert_int_eq(hf_wait_durable(writer, 1, 0), -ECONNABORTED);
    ck_assert_uint_eq(fake_gate_count(&gate, READ_PUBLISH), 1);
}
END_TEST

START_TEST(an_answer_that_cannot_be_is_not_followed)
{
    publish_some(3);
    atomic_store(&box()->map.answer->taken, 1ull << 40);
    let_go();
    await_reserve(-EPROTO);
}
END_TEST

START_TEST(a_position_within_a_record_is_not_followed)
{
    publish_some(3);
    atomic_store(&box()->map.answer->taken, 8);
    let_go();
    offer(true);
    await_reserve(-EPROTO);
}
END_TEST

/* Whatever order it comes in. */
START_TEST(chance)
{
    unsigned seed = (unsigned)_i + 1;
    for (int step = 0; step < 3000; step++) {
        const int what = rand_r(&seed) % 100;
        if (what < 50)
            publish();
        else if (what < 80 && box()->map.head)
            take();
        else if (what < 82 && box()->map.head && box_count < BOXES)
            let_go();
        else if (what < 86 && !box()->map.head)
            offer(true);
        else if (what < 95)
            hf_wait_durable(writer, 0, 0);
        else
            is_readable(1);
    }
    if (!box()->map.head)
        offer(true);
    take_until_all();
}
END_TEST

/* ---- durability ---- */

START_TEST(what_is_durable_is_known)
{
    publish_some(10);
    take_all();
    ck_assert_int_eq(hf_wait_durable(writer, 11, 0), -EINVAL);
    ck_assert_int_eq(hf_wait_durable(writer, 10, 0), -ETIMEDOUT);
    ck_assert_int_eq(hf_wait_durable(writer, 10, 20), -ETIMEDOUT);
    ck_assert_int_eq(hf_wait_durable(writer, 0, -1), 0);
    outbox_fixture_say_durable(box(), 5);
    ck_assert_int_eq(hf_wait_durable(writer, 5, -1), 0);
    ck_assert_int_eq(hf_wait_durable(writer, 6, 0), -ETIMEDOUT);
    ck_assert(!is_readable(0));
    outbox_fixture_say_durable(box(), 6);
    ck_assert(is_readable(0)); /* it was waited for */
    ck_assert_int_eq(hf_wait_durable(writer, 6, 0), 0);
    ck_assert(!is_readable(0));
}
END_TEST

START_TEST(durability_is_told_whatever_was_asked_for_meanwhile)
{
    publish_some(10);
    take_all();
    ck_assert_int_eq(hf_wait_durable(writer, 10, 0), -ETIMEDOUT);
    outbox_fixture_say_durable(box(), 10);
    for (int i = 0; i < 50; i++) { /* looks at the bell now and then */
        publish_some(1);
        poll(NULL, 0, 1);
    }
    ck_assert(is_readable(DEADLINE_MS));
    ck_assert_int_eq(hf_wait_durable(writer, 10, 0), 0);
    ck_assert(!is_readable(20));
}
END_TEST

START_TEST(what_is_waited_for_is_told_by_another_outbox)
{
    void *room;
    publish_some(10);
    ck_assert_int_eq(hf_wait_durable(writer, 10, 0), -ETIMEDOUT);
    let_go();
    offer(true);
    go_round();
    await_box();
    ck_assert_int_eq(hf_reserve(writer, 1, &room), 0);
    hf_abort(writer);
    take_all();
    ck_assert(!is_readable(20));
    outbox_fixture_say_durable(box(), 10);
    ck_assert(is_readable(DEADLINE_MS));
    ck_assert_int_eq(hf_wait_durable(writer, 10, 0), 0);
    ck_assert(!is_readable(20));
}
END_TEST

static void *say_durable(void *unused)
{
    (void)unused;
    while (atomic_load(&box()->map.head->wants_durable) != 10)
        poll(NULL, 0, 1);
    outbox_fixture_say_durable(box(), 10);
    return NULL;
}

START_TEST(a_waiting_one_is_woken)
{
    pthread_t thread;
    publish_some(10);
    take_all();
    ck_assert_int_eq(pthread_create(&thread, NULL, say_durable, NULL), 0);
    ck_assert_int_eq(hf_wait_durable(writer, 10, -1), 0);
    pthread_join(thread, NULL);
}
END_TEST

START_TEST(durability_counts_over_outboxes)
{
    publish_some(10);
    take_some(6);
    outbox_fixture_say_durable(box(), 6);
    let_go();
    offer(true);
    go_round();
    await_box();
    ck_assert_int_eq(hf_wait_durable(writer, 6, 0), 0);
    ck_assert_int_eq(hf_wait_durable(writer, 7, 0), -ETIMEDOUT);
    publish_some(2);
    take_until_all();
    outbox_fixture_say_durable(box(), 4);
    ck_assert_int_eq(hf_wait_durable(writer, 10, 0), 0);
    ck_assert_int_eq(hf_wait_durable(writer, 11, 0), -ETIMEDOUT);
    outbox_fixture_say_durable(box(), 6);
    ck_assert_int_eq(hf_wait_durable(writer, 12, 0), 0);
}
END_TEST

START_TEST(what_nobody_can_know_is_told)
{
    publish_some(10);
    take_some(6);
    outbox_fixture_say_durable(box(), 4); /* of two, the daemon did not say it any more */
    let_go();
    offer(true);
    go_round();
    await_box();
    take_until_all();
    outbox_fixture_say_durable(box(), 4);
    ck_assert_int_eq(hf_wait_durable(writer, 4, 0), 0);
    ck_assert_int_eq(hf_wait_durable(writer, 5, 0), -ENODATA);
    ck_assert_int_eq(hf_wait_durable(writer, 10, -1), -ENODATA);
}
END_TEST

START_TEST(a_channel_without_a_recording_makes_nothing_durable)
{
    hf_writer *other;
    offer(false);
    ck_assert_int_eq(hf_publish(handle, "engine", &other), 0);
    void *room;
    ck_assert_int_eq(hf_reserve(other, 4, &room), 0);
    ck_assert_int_eq(hf_commit(other, 4), 0);
    ck_assert_int_eq(hf_wait_durable(other, 1, -1), -EOPNOTSUPP);
    ck_assert_int_eq(hf_wait_durable(other, 0, -1), 0);
}
END_TEST

/* ---- beginning ---- */

START_TEST(publishing_is_refused_with_the_gates_error)
{
    hf_writer *other;
    const int errors[] = {ENOENT, EOPNOTSUPP, EACCES, EUSERS};
    const int before = unit_count_fds();
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        refuse_all(errors[i]);
        ck_assert_int_eq(hf_publish(handle, "engine", &other), -errors[i]);
        ck_assert_ptr_null(other);
    }
    char name[200];
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = '\0';
    ck_assert_int_eq(hf_publish(handle, name, &other), -ENOENT);
    ck_assert_int_eq(hf_publish(handle, NULL, &other), -EINVAL);
    ck_assert_int_eq(unit_count_fds(), before);
}
END_TEST

START_TEST(what_is_in_the_way_for_a_moment_is_waited_for)
{
    hf_writer *other;
    pthread_mutex_lock(&gate.lock);
    gate.drop_once = true;
    gate.turns_away = 1;
    pthread_mutex_unlock(&gate.lock);
    offer(true);
    ck_assert_int_eq(hf_publish(handle, "engine", &other), 0);
    ck_assert_uint_ge(fake_gate_count(&gate, READ_HELLO), 2);
}
END_TEST

START_TEST(a_silent_gate_is_not_waited_for)
{
    hf_writer *other;
    pthread_mutex_lock(&gate.lock);
    gate.deaf = true;
    pthread_mutex_unlock(&gate.lock);
    ck_assert_int_eq(hf_publish(handle, "engine", &other), -ETIMEDOUT);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {what_is_committed_comes_as_it_is,
                                  a_datagram_has_a_longest_length,
                                  a_full_outbox_says_so_and_then_that_there_is_room,
                                  room_is_told_whatever_was_asked_for_meanwhile,
                                  a_child_of_the_program_does_not_keep_the_end_readable,
                                  a_closed_writer_has_ended_though_a_child_lives,
                                  a_worker_is_called_only_when_it_sleeps,
                                  the_death_of_the_gate_is_not_noticed,
                                  a_closed_writer_leaves_what_it_has_committed,
                                  what_nobody_has_taken_is_carried_over,
                                  publishing_goes_on_without_a_daemon_until_it_is_full,
                                  a_slow_publisher_notices_by_itself,
                                  a_box_that_ends_while_it_is_filled_leaves_nothing_out,
                                  a_reservation_outlives_its_outbox,
                                  another_outbox_may_end_beside_a_reservation,
                                  one_that_says_it_has_ended_is_believed,
                                  a_channel_that_is_gone_is_told_and_tried_again,
                                  who_is_cut_off_stays_so,
                                  an_answer_that_cannot_be_is_not_followed,
                                  a_position_within_a_record_is_not_followed,
                                  what_is_durable_is_known,
                                  durability_is_told_whatever_was_asked_for_meanwhile,
                                  what_is_waited_for_is_told_by_another_outbox,
                                  a_waiting_one_is_woken,
                                  durability_counts_over_outboxes,
                                  what_nobody_can_know_is_told,
                                  a_channel_without_a_recording_makes_nothing_durable,
                                  publishing_is_refused_with_the_gates_error,
                                  what_is_in_the_way_for_a_moment_is_waited_for,
                                  a_silent_gate_is_not_waited_for};
    Suite *suite = suite_create("writer");
    TCase *part = tcase_create("writer");
    tcase_add_checked_fixture(part, setup, teardown);
    tcase_set_timeout(part, 60);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(part, tests[i]);
    tcase_add_loop_test(part, chance, 0, 10);
    suite_add_tcase(suite, part);
    return log_maker_run(suite);
}
