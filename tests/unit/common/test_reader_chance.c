/* SPDX-License-Identifier: MIT */
/* One reader of libholdfast, while a recorder, a gate and rings do at random what they can do. What
 * comes is judged by what there is:
 *
 *   - every number comes once and in order, as a datagram or as lost;
 *   - a datagram is a recorded one, and the recorder's;
 *   - nothing is told as lost that is recorded and not expired;
 *   - HF_UNCOVERED comes only where numbers were given again, and never leads forward;
 *   - HF_OLD ends where it was opened, and HF_LIVE comes once;
 *   - when nothing happens any more, all that is there was given, and it is silent;
 *   - nothing comes that the descriptor doesn't tell of.
 *
 * Which datagrams it is at when something happens depends on the machine, too: a seed may have to
 * be repeated several times until it fails again. */
#include <check.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/client/holdfast.h"
#include "common/monotonic.h"
#include "tests/lib/chance.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/reader_scene.h"

#define SCENES            16
#define STEPS_BEFORE_MOST 24
#define STEPS             60 /* with the reader */
#define READ_MOST         40 /* at once */
/* A hole is believed after a quarter of a second: also that must not come. */
#define SILENCE_MS  300
#define PATIENCE_MS ((int)(READER_SCENE_PATIENCE_NS / NS_PER_MS))
#define POSITION    "mine"

static uint64_t first_seed;

static struct {
    uint64_t seed;
    unsigned mode;
    bool has_position;
    uint64_t next, opened;
    uint64_t read_from; /* where it began, or was sought */
    bool is_waiting;    /* it had nothing: its descriptor tells when there is more */
    bool is_live, is_finished;
    bool was_given[CHANCE_NUMBERS]; /* since then */
} reader;

/* ---- the judge ---- */

static void judge(bool is_right, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void judge(bool is_right, const char *format, ...)
{
    char text[200];
    va_list arguments;
    if (is_right)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printf("---- history of seed %" PRIu64 ", mode %u%s ----\n", reader.seed, reader.mode,
           chance.gives_again ? ", numbers are given again" : "");
    chance_print_history();
    ck_abort_msg("%s, at %" PRIu64 " (set HOLDFAST_TEST_SEED to %" PRIu64 ")", text, reader.next,
                 reader.seed);
}

static void judge_datagram(const struct hf_datagram *datagram)
{
    const uint64_t seq = datagram->seq;
    chance_note_given(seq);
    judge(seq == reader.next, "datagram %" PRIu64 " out of order", seq);
    judge(reader.mode != HF_OLD || seq < reader.opened, "datagram %" PRIu64 " is not old", seq);
    judge(chance.fates[seq] == CHANCE_RECORDED || chance.fates[seq] == CHANCE_EXPIRED,
          "datagram %" PRIu64 " was never recorded", seq);
    judge(!reader.was_given[seq], "datagram %" PRIu64 " for the second time", seq);
    judge(reader_scene_is_record(seq), "datagram %" PRIu64 " is another one", seq);
    reader.was_given[seq] = true;
    reader.next = seq + 1;
}

static void judge_uncovered(uint64_t seq)
{
    chance_note("    uncovered, on at %" PRIu64, seq);
    judge(reader.mode != HF_OLD, "HF_OLD is told that something begins anew");
    judge(seq >= chance.anew_from, "nothing has begun anew at %" PRIu64, seq);
    judge(seq <= reader.next, "led forward to %" PRIu64, seq);
    reader.next = seq;
}

static void judge_lost(const struct hf_datagram *told)
{
    const char *why = hf_why_text(told->why);
    const uint64_t end = told->seq + told->lost;
    chance_note("    lost from %" PRIu64 " up to %" PRIu64 ": %s", told->seq, end, why);
    judge(told->seq == reader.next, "lost from %" PRIu64 " on, out of order", told->seq);
    judge(end <= chance.end_ever, "lost up to %" PRIu64 ", which nobody has given", end);
    /* What a dead ring has lost may be told as lost when it has been given again already: who is
     * not promised the old ones only is led back to it then. */
    for (uint64_t seq = told->seq; seq < end; seq++)
        judge(chance.fates[seq] != CHANCE_RECORDED || chance.was_lost[seq],
              "%" PRIu64 " is told as %s, and is there", seq, why);
    reader.next = end;
}

static void judge_event(int event)
{
    switch (event) {
    case HF_DATAGRAM:
        judge_datagram(&scene.datagram);
        break;
    case HF_LOST:
        if (scene.datagram.lost > 0)
            judge_lost(&scene.datagram);
        else
            judge_uncovered(scene.datagram.seq);
        break;
    case HF_LIVE:
        chance_note("    live");
        judge(reader.mode == HF_JOINED && !reader.is_live, "live again");
        reader.is_live = true;
        break;
    case HF_FINISHED:
        chance_note("    finished");
        judge(reader.mode == HF_OLD, "finished, and is not HF_OLD");
        judge(reader.next == reader.opened, "finished, not at %" PRIu64, reader.opened);
        reader.is_finished = true;
        break;
    default:
        judge(false, "hf_next() returns %d", event);
    }
}

static void judge_lag(void)
{
    struct hf_lag lag;
    judge(hf_lag(scene.reader, &lag) == 0, "hf_lag() fails");
    judge(lag.next_seq == reader.next, "hf_lag() says that %" PRIu64 " is next", lag.next_seq);
    judge(lag.end_seq >= lag.next_seq, "hf_lag() says that the end is %" PRIu64, lag.end_seq);
}

/* ---- the reader ---- */

/* As a program does it: what its descriptor doesn't tell of has not come. false: nothing came. */
static bool read_one(int patience_ms)
{
    struct pollfd wait = {.fd = hf_reader_fd(scene.reader), .events = POLLIN};
    if (reader.is_waiting && poll(&wait, 1, patience_ms) == 0)
        return false;
    const int event = hf_next(scene.reader, &scene.datagram);
    reader.is_waiting = event == HF_NONE;
    if (event != HF_NONE)
        judge_event(event);
    return true;
}

static void read_some(void)
{
    const uint64_t most = chance_below(READ_MOST);
    const int patience_ms = chance_one_in(3) ? 20 : 0;
    for (uint64_t i = 0; i < most && !reader.is_finished; i++)
        if (!read_one(patience_ms))
            return;
}

/* With gives_again, nobody could say any more what is to come twice. */
static void seek(void)
{
    const uint64_t oldest = chance_oldest_seq();
    const uint64_t to = oldest + chance_below(chance_end_seq() - oldest + 1);
    if (chance.gives_again || (reader.mode == HF_OLD && to > reader.opened))
        return;
    chance_note("  sought: %" PRIu64, to);
    const int result = hf_seek(scene.reader, &(struct hf_start){.at = HF_SEQ, .seq = to});
    judge(result == 0, "hf_seek() returns %d", result);
    reader.next = reader.read_from = to;
    reader.is_waiting = reader.is_finished = false;
    memset(reader.was_given, 0, sizeof reader.was_given);
}

static void save(void)
{
    if (!reader.has_position)
        return;
    chance_note("  saved: %" PRIu64, reader.next);
    const int result = hf_save(scene.reader, reader.next);
    judge(result == 0, "hf_save() returns %d", result);
}

static void act(void)
{
    switch (chance_below(12)) {
    case 0:
        judge_lag();
        break;
    case 1:
        save();
        break;
    case 2:
        seek();
        break;
    case 3:
    case 4:
    case 5:
        break; /* nothing */
    default:
        read_some();
        break;
    }
}

/* Somewhere in what is recorded. */
static void place_position(void)
{
    const uint64_t oldest = chance_oldest_seq();
    struct read_position_entry *entry = &scene.gate.positions[0];
    pthread_mutex_lock(&scene.gate.lock);
    *entry = (struct read_position_entry){.channel = RING_FIXTURE_CHANNEL,
                                          .name = POSITION,
                                          .seq = oldest +
                                                 chance_below(chance_newest_seq() - oldest + 1)};
    scene.gate.position_count = 1;
    pthread_mutex_unlock(&scene.gate.lock);
    chance_note("  the position is %" PRIu64, entry->seq);
}

static void open_reader(void)
{
    const struct hf_start at_position = {.at = HF_POSITION, .position = POSITION};
    struct hf_lag lag;
    if (chance_one_in(3)) {
        chance_stop_lending();
        chance_write_in_vain();
    } else {
        chance_lend();
    }
    if (reader.has_position && chance_one_in(2))
        place_position();
    const int result =
        hf_read(scene.handle, RING_FIXTURE_CHANNEL, reader.has_position ? &at_position : NULL,
                reader.mode, &scene.reader);
    judge(result == 0, "hf_read() returns %d", result);
    judge(hf_lag(scene.reader, &lag) == 0, "hf_lag() fails");
    reader.next = reader.read_from = lag.next_seq;
    reader.opened = lag.opened_seq;
    chance_note("  opened at %" PRIu64 ", the end is %" PRIu64, reader.next, reader.opened);
}

/* ---- the whole ---- */

static bool has_come_to_the_end(void)
{
    if (reader.mode == HF_OLD)
        return reader.is_finished;
    return reader.next == chance_end_seq() && (reader.mode != HF_JOINED || reader.is_live);
}

static void read_the_rest(void)
{
    const monotonic until = monotonic_add(monotonic_now(), READER_SCENE_PATIENCE_NS);
    while (!reader.is_finished && read_one(has_come_to_the_end() ? SILENCE_MS : PATIENCE_MS))
        judge(monotonic_now().ns < until.ns, "it is woken without end");
    judge(has_come_to_the_end(), "it doesn't come to the end at %" PRIu64, chance_end_seq());
    for (uint64_t seq = reader.read_from; seq < chance_end_seq() && reader.mode != HF_OLD; seq++)
        judge(chance.fates[seq] != CHANCE_RECORDED || reader.was_given[seq],
              "%" PRIu64 " never came", seq);
}

/* The seeds of a run follow each other, and so there is each kind of scene in it. */
static void begin(uint64_t seed)
{
    static const unsigned modes[] = {HF_JOINED, HF_NEW, HF_OLD, HF_JOINED};
    memset(&reader, 0, sizeof reader);
    reader.seed = seed;
    reader.mode = modes[seed / 2 % 4];
    chance_begin(seed, seed % 2);
    reader.has_position = chance_one_in(2);
}

START_TEST(a_scene)
{
    begin(first_seed + (uint64_t)_i);
    for (uint64_t steps = chance_below(STEPS_BEFORE_MOST + 1); steps > 0; steps--)
        chance_step();
    open_reader();
    for (unsigned i = 0; i < STEPS; i++) {
        chance_step();
        act();
    }
    chance_come_to_rest();
    read_the_rest();
    reader_scene_close_reader();
    chance_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reader_chance");
    TCase *tests = tcase_create("reader_chance");
    first_seed = log_maker_seed((uint64_t)time(NULL) * SCENES);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, reader_scene_begin, reader_scene_end);
    tcase_add_loop_test(tests, a_scene, 0, SCENES);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
