/* SPDX-License-Identifier: MIT */
/* A program that sleeps until its reader's descriptor tells it of something. The story: it saves,
 * seeks, asks how far it is, and the gate dies, in any order and whether it has read everything
 * before or not; and whatever it does, it gets what comes, and is not woken for nothing for ever.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/client/holdfast.h"
#include "common/monotonic.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/reader_scene.h"

#define ROUNDS      200
#define STEPS_MOST  5
#define TURNS_MOST  2000 /* of one round: more is a circle */
#define PATIENCE_MS 10000
#define LENGTH      300

enum source { FROM_LOG, FROM_RING, NEWEST, SOURCE_COUNT };

static struct {
    enum source source;
    uint64_t random;
    uint64_t next, end; /* of the program, and of what has come */
    char steps[256];    /* of this round, for people */
} it;

static uint64_t choose(uint64_t count)
{
    return ring_fixture_random(&it.random) % count;
}

static void more_comes(unsigned count)
{
    uint8_t payload[LENGTH];
    it.end += count;
    if (it.source == FROM_LOG) {
        live_log_append(&scene.recorder, count);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        ring_fixture_fill(payload, scene.ring.writer.seq, sizeof payload);
        ring_fixture_write(&scene.ring.writer, payload, sizeof payload);
    }
}

/* Until there is nothing more just now. */
static void take_all(void)
{
    int event;
    while ((event = hf_next(scene.reader, &scene.datagram)) != HF_NONE) {
        ck_assert_msg(event > 0, "hf_next: %s; %s", strerror(-event), it.steps);
        if (event == HF_DATAGRAM)
            it.next = scene.datagram.seq + 1;
        else if (event == HF_LOST)
            it.next = scene.datagram.seq + scene.datagram.lost;
    }
}

static void seek(enum hf_at at, uint64_t seq)
{
    it.next = seq;
    ck_assert_int_eq(hf_seek(scene.reader, &(struct hf_start){.at = at, .seq = seq}), 0);
}

static void do_something(void)
{
    struct hf_lag lag;
    const unsigned step = (unsigned)choose(9);
    const size_t used = strlen(it.steps);
    snprintf(it.steps + used, sizeof it.steps - used, "%u ", step);
    switch (step) {
    case 0:
        more_comes(1 + (unsigned)choose(2));
        break;
    case 1:
        ck_assert_int_eq(hf_save(scene.reader, it.next), 0);
        break;
    case 2:
        ck_assert_int_eq(hf_lag(scene.reader, &lag), 0);
        break;
    case 3:
        seek(HF_END, it.end);
        break;
    case 4:
        seek(HF_SEQ, it.end - choose(4));
        break;
    case 5:
        seek(HF_SEQ, it.end + 1000); /* not yet */
        take_all();
        seek(HF_END, it.end);
        break;
    case 6:
        if (choose(3) == 0)
            fake_gate_kill(&scene.gate);
        break;
    case 7: /* it is not lent for a while */
        reader_scene_lend(NULL, 0);
        if (choose(2))
            poll(NULL, 0, 10);
        if (choose(2))
            take_all();
        reader_scene_lend(&scene.ring, 1);
        break;
    default:
        take_all();
        break;
    }
}

/* To the end of what has come; `asleep`: it begins by sleeping. */
static void catch_up(bool asleep)
{
    struct pollfd wait = {.fd = hf_reader_fd(scene.reader), .events = POLLIN};
    for (unsigned turns = 0; it.next < it.end; turns++) {
        if (!asleep)
            take_all();
        asleep = false;
        ck_assert_msg(turns < TURNS_MOST, "in circles: %s", it.steps);
        ck_assert_msg(it.next >= it.end || poll(&wait, 1, PATIENCE_MS) > 0,
                      "asleep at %llu of %llu: %s", (unsigned long long)it.next,
                      (unsigned long long)it.end, it.steps);
    }
}

static void begin(int number)
{
    static const struct ring_fixture_settings usual = {.ring_size = 1 << 16, .max_datagram = 1000};
    const struct hf_start start = {.at = HF_END, .position = "mine"};
    memset(&it, 0, sizeof it);
    it.source = (enum source)(number % SOURCE_COUNT);
    it.random = 12345 + (uint64_t)number * 777;
    if (it.source == FROM_LOG) {
        reader_scene_begin();
        reader_scene_begin_segment();
    } else {
        reader_scene_begin_without_log(&usual);
    }
    more_comes(10);
    it.next = it.end;
    reader_scene_read(it.source == NEWEST ? HF_NEWEST : HF_NEW, &start);
    take_all();
}

START_TEST(it_misses_nothing_whatever_it_does)
{
    begin(_i);
    for (int round = 0; round < ROUNDS; round++) {
        it.steps[0] = '\0';
        for (uint64_t steps = 1 + choose(STEPS_MOST); steps > 0; steps--)
            do_something();
        more_comes(1);
        catch_up(choose(2) == 0);
    }
    reader_scene_expect_silence();
    reader_scene_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reader_sleep");
    TCase *tests = tcase_create("reader_sleep");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, it_misses_nothing_whatever_it_does, 0, 2 * SOURCE_COUNT);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
