/* SPDX-License-Identifier: MIT */
/* Plays a recorder, a gate and rings at random, in the order that the daemon keeps: a segment is
 * named before the next one begins, what is found as open is sealed before a ring is lent again
 * that was not lent for a while, and a ring that has died takes its gate with it. */
#include "tests/lib/chance.h"

#include <check.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/channel_page.h"
#include "tests/lib/live_log.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/reader_scene.h"

#define APPEND_MOST   20
#define LOSE_MOST     5
#define SEGMENTS_MOST (FAKE_GATE_SEGMENTS - 4)

struct chance chance;

/* ---- history ---- */

#define HISTORY_LINES 200

static struct {
    char lines[HISTORY_LINES][80];
    unsigned count;
    uint64_t given_from, given_end; /* of the last line, if it is of datagrams; else both 0 */
} history;

static char *last_line(void)
{
    return history.lines[(history.count - 1) % HISTORY_LINES];
}

void chance_note(const char *format, ...)
{
    va_list arguments;
    history.count++;
    history.given_from = history.given_end = 0;
    va_start(arguments, format);
    vsnprintf(last_line(), sizeof history.lines[0], format, arguments);
    va_end(arguments);
}

void chance_note_given(uint64_t seq)
{
    if (history.given_end == 0 || history.given_end != seq) {
        chance_note("    datagrams");
        history.given_from = seq;
    }
    history.given_end = seq + 1;
    snprintf(last_line(), sizeof history.lines[0], "    datagrams %" PRIu64 " to %" PRIu64,
             history.given_from, seq);
}

void chance_print_history(void)
{
    unsigned from = history.count > HISTORY_LINES ? history.count - HISTORY_LINES : 0;
    for (unsigned i = from; i < history.count; i++)
        printf("%s\n", history.lines[i % HISTORY_LINES]);
    fflush(stdout);
}

/* ---- dice ---- */

uint64_t chance_below(uint64_t count)
{
    return log_maker_random(&chance.random) % count;
}

bool chance_one_in(unsigned times)
{
    return chance_below(times) == 0;
}

/* ---- numbers ---- */

uint64_t chance_end_seq(void)
{
    return scene.recorder.maker.next_seq;
}

uint64_t chance_oldest_seq(void)
{
    return scene.gate.segment_count ? scene.gate.segments[0].first_seq : 0;
}

uint64_t chance_newest_seq(void)
{
    const size_t count = scene.gate.segment_count;
    return count ? scene.gate.segments[count - 1].first_seq : 0;
}

/* The next numbers; they are not given yet. */
static void decide(uint64_t count, enum chance_fate fate)
{
    const uint64_t first = chance_end_seq();
    ck_assert_uint_lt(first + count, CHANCE_NUMBERS);
    for (uint64_t seq = first; seq < first + count; seq++)
        chance.fates[seq] = fate;
    if (first + count > chance.end_ever)
        chance.end_ever = first + count;
}

/* ---- segments ---- */

static void name_segment(void)
{
    if (!chance.is_unnamed)
        return;
    live_log_name(&scene.recorder);
    chance.is_unnamed = false;
    chance_note("the segment is named");
}

/* The present segment has its name, and is the gate's last one. */
static void note_ended(uint64_t length)
{
    chance.ended[scene.gate.segment_count - 1] =
        (struct chance_ended){.length = length, .is_empty = chance.is_empty};
}

/* The gate doesn't find it any more. */
static void drop_segment(size_t index)
{
    struct fake_gate *gate = &scene.gate;
    pthread_mutex_lock(&gate->lock);
    gate->segment_count--;
    const size_t behind = gate->segment_count - index;
    memmove(gate->segments + index, gate->segments + index + 1, behind * sizeof *gate->segments);
    memmove(chance.ended + index, chance.ended + index + 1, behind * sizeof *chance.ended);
    pthread_mutex_unlock(&gate->lock);
}

/* An empty one is as new as can be. */
static void begin_segment(void)
{
    const bool had_one = scene.recorder.fd >= 0;
    name_segment();
    if (scene.gate.segment_count >= SEGMENTS_MOST || (had_one && chance.is_empty))
        return;
    live_log_roll(&scene.recorder);
    if (had_one)
        note_ended(scene.recorder.commit.finished_length);
    chance.is_unnamed = true;
    chance.is_empty = true;
    chance.known_end = chance_end_seq();
    chance_note("a segment begins at %" PRIu64, chance_end_seq());
    if (!chance_one_in(3))
        name_segment();
}

/* Behind the gate's last segment that nobody writes. */
static size_t ended_count(void)
{
    const bool writes_last = scene.recorder.fd >= 0 && !chance.is_unnamed;
    return scene.gate.segment_count - writes_last;
}

/* The archive keeps none that nothing was recorded in. */
static void throw_empty_away(void)
{
    for (size_t i = ended_count(); i > 0; i--)
        if (chance.ended[i - 1].is_empty)
            drop_segment(i - 1);
}

/* Of those that nobody writes, one in so many. */
static void seal_one_in(unsigned times)
{
    throw_empty_away();
    for (size_t i = 0; i < ended_count(); i++)
        if (scene.gate.segments[i].is_open && chance_one_in(times)) {
            live_log_seal(&scene.recorder, i, chance.ended[i].length);
            chance_note("the segment of %" PRIu64 " is sealed", scene.gate.segments[i].first_seq);
        }
}

static void seal_all(void)
{
    seal_one_in(1);
}

static void append(void)
{
    const unsigned count = 1 + (unsigned)chance_below(APPEND_MOST);
    if (scene.recorder.fd < 0)
        begin_segment();
    if (scene.recorder.fd < 0)
        return;
    decide(count, CHANCE_RECORDED);
    live_log_append(&scene.recorder, count);
    chance.is_empty = false;
    chance_note("recorded, up to %" PRIu64, chance_end_seq());
}

static void lose(void)
{
    const uint64_t count = 1 + chance_below(LOSE_MOST);
    decide(count, CHANCE_LOST);
    live_log_lose(&scene.recorder, count);
    chance_note("lost, up to %" PRIu64, chance_end_seq());
}

void chance_write_in_vain(void)
{
    if (scene.recorder.fd < 0 || chance.is_in_vain)
        return;
    decide(1, CHANCE_RECORDED);
    live_log_write_in_vain(&scene.recorder);
    chance.is_in_vain = true;
    chance_note("recorded, not committed: %" PRIu64, chance_end_seq());
}

/* The worker's successor, which finds the datagram in the ring, begins with it. */
static void write_again(void)
{
    if (!chance.is_in_vain)
        return;
    live_log_append(&scene.recorder, 1);
    chance.is_empty = false;
    chance.is_in_vain = false;
    chance_note("recorded again, up to %" PRIu64, chance_end_seq());
}

/* The disk refuses the present segment. */
static void give_up_segment(void)
{
    if (scene.recorder.fd < 0)
        return;
    name_segment();
    live_log_lose(&scene.recorder, 0);
    live_log_give_up(&scene.recorder);
    note_ended(scene.recorder.commit.finished_length);
    chance_note("the segment is given up");
    lose();
}

/* The oldest segment is too old. */
static void expire_segment(void)
{
    const struct fake_gate *gate = &scene.gate;
    if (gate->segment_count <= 2 || gate->segments[0].is_open)
        return;
    const uint64_t end = gate->segments[1].first_seq;
    for (uint64_t seq = gate->segments[0].first_seq; seq < end; seq++)
        if (chance.fates[seq] == CHANCE_RECORDED)
            chance.fates[seq] = CHANCE_EXPIRED;
    drop_segment(0);
    chance_note("expired, up to %" PRIu64, end);
}

/* ---- rings ---- */

static void kill_gate(void)
{
    fake_gate_kill(&scene.gate);
    chance_note("the gate dies");
}

void chance_stop_lending(void)
{
    reader_scene_lend(NULL, 0);
    chance.is_lent = false;
    chance_note("no ring is lent");
}

static void lend_present_ring(void)
{
    reader_scene_lend(chance.ring, 10 + chance.ring_count);
    chance.is_lent = true;
    chance_note("the ring is lent");
}

void chance_lend(void)
{
    if (chance.is_lent)
        return;
    seal_all();
    lend_present_ring();
    if (chance_one_in(2))
        kill_gate();
}

/* Nobody writes it any more when the next ring is there. */
static void end_segment(void)
{
    name_segment();
    if (scene.recorder.fd < 0)
        return;
    live_log_lose(&scene.recorder, 0);
    note_ended(scene.recorder.commit.block_start);
}

/* What was lost at the log's end is forgotten. Returns where that ends now. Not played: numbers
 * that are given again from an empty segment on, and recorded by a ring that nobody sees; readers
 * take what begins at the same number for the same segment. */
static uint64_t forget_the_end(void)
{
    uint64_t end = chance_end_seq();
    if (chance.is_empty)
        return end;
    while (end > chance.known_end && chance.fates[end - 1] == CHANCE_LOST) {
        end--;
        chance.fates[end] = CHANCE_NOT_YET;
        chance.was_lost[end] = true;
    }
    if (end < chance_end_seq() && end < chance.anew_from)
        chance.anew_from = end;
    return end;
}

static void move_to_another_ring(uint64_t start)
{
    struct ring_fixture *ring = &chance.rings[chance.ring_count++];
    reader_scene_open_ring(ring, start, 1000 + chance.ring_count);
    live_log_move(&scene.recorder, ring, start);
    throw_empty_away();
    chance.ring = ring;
    chance.is_failing = chance.is_empty = false;
    chance.known_end = start;
    chance_note("another ring begins at %" PRIu64, start);
}

/* Everything of the channel is stopped, and another ring follows. */
static void replace_ring(void)
{
    if (chance.ring_count == CHANCE_RINGS)
        return;
    write_again();
    end_segment();
    channel_page_retire(chance.ring->ring.page, RING_REPLACED, chance_end_seq());
    chance_note("the ring ends at %" PRIu64, chance_end_seq());
    move_to_another_ring(chance_end_seq());
    if (chance_one_in(3))
        seal_all();
    if (chance_one_in(3))
        chance_stop_lending();
    else
        lend_present_ring();
    if (chance_one_in(2))
        kill_gate();
    if (chance_one_in(3))
        seal_all();
}

/* Everything dies, and there is another ring some time later. */
static void lose_ring(void)
{
    if (chance.ring_count == CHANCE_RINGS)
        return;
    write_again();
    end_segment();
    chance_note("the ring dies at %" PRIu64, chance_end_seq());
    move_to_another_ring(chance.gives_again ? forget_the_end() : chance_end_seq());
    if (chance_one_in(2))
        seal_all();
    chance_stop_lending();
    kill_gate();
}

/* ---- the whole ---- */

void chance_begin(uint64_t seed, bool gives_again)
{
    history.count = 0;
    chance = (struct chance){.random = seed,
                             .gives_again = gives_again,
                             .anew_from = UINT64_MAX,
                             .ring = &scene.ring,
                             .is_lent = true};
}

void chance_end(void)
{
    reader_scene_lend(NULL, 0);
    for (unsigned i = 0; i < chance.ring_count; i++)
        ring_fixture_close(&chance.rings[i]);
}

static void step_of_rings(void)
{
    if (!chance.is_lent && !chance_one_in(3))
        chance_lend();
    else if (chance_one_in(2))
        replace_ring();
    else
        lose_ring();
}

static void step_of_segments(void)
{
    write_again();
    switch (chance_below(8)) {
    case 0:
    case 1:
        begin_segment();
        break;
    case 2:
        seal_one_in(2);
        break;
    case 3:
    case 4:
        expire_segment();
        break;
    case 5:
        give_up_segment();
        break;
    default:
        name_segment();
        break;
    }
}

static void step_of_recorder(void)
{
    write_again();
    if (chance.is_failing) {
        lose();
        return;
    }
    switch (chance_below(6)) {
    case 0:
    case 1:
        lose();
        chance.is_failing = chance_one_in(2);
        break;
    case 2:
        chance_write_in_vain();
        break;
    default:
        append();
        break;
    }
}

void chance_step(void)
{
    switch (chance_below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        step_of_recorder();
        break;
    case 5:
    case 6:
    case 7:
        step_of_segments();
        break;
    case 8:
    case 9:
        step_of_rings();
        break;
    case 10:
        kill_gate();
        break;
    default:
        break; /* nothing */
    }
}

void chance_come_to_rest(void)
{
    chance_lend();
    write_again();
    append();
    name_segment();
    seal_all();
    chance_note("nothing happens any more, %" PRIu64 " is the end", chance_end_seq());
}
