/* SPDX-License-Identifier: MIT */
/* Lists of destinations that change. The story: one ring sees list after list, as many names as
 * there are places, all of them new each time; every one has a place, and no count is lost. */
#include "worker/channel/destination_places.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_page_counters.h"
#include "common/channel_page_check.h"
#include "common/channel_page_places.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/tally.h"

static const struct ring_fixture_settings plain = {
    .ring_size = 8192, .max_datagram = 200, .start_seq = 1000};

struct rig {
    struct ring_fixture fixture;
    struct channel_state channel;
    struct channel_spec *spec;
};

static void open_rig(struct rig *rig)
{
    memset(rig, 0, sizeof *rig);
    ring_fixture_open(&rig->fixture, &plain);
    rig->spec = calloc(1, channel_spec_size(CHANNEL_DESTINATIONS_MAX));
    ck_assert_ptr_nonnull(rig->spec);
    rig->channel.spec = rig->spec;
    rig->channel.ring = rig->fixture.ring;
}

static void close_rig(struct rig *rig)
{
    free(rig->spec);
    ring_fixture_close(&rig->fixture);
}

/* The next worker's settings; as many as there were, if `name` says so, under other names. */
static void set_names(struct rig *rig, uint32_t relays, uint32_t decimates, const char *name)
{
    rig->spec->relay_count = relays;
    rig->spec->decimate_count = decimates;
    for (uint32_t i = 0; i < relays + decimates; i++) {
        struct destination_spec *destination = &rig->spec->destinations[i];
        memset(destination, 0, sizeof *destination);
        snprintf(destination->name, sizeof destination->name, "%s-%u", name, i);
        destination->keep_every = i < relays ? 0 : 1;
    }
}

static void take_over(struct rig *rig)
{
    const char *what = "";
    if (channel_page_check(rig->fixture.ring.page, rig->fixture.ring.descriptors,
                           &rig->fixture.geometry, RING_FIXTURE_CHANNEL, &what) < 0 ||
        destination_places_make(&rig->channel, &what) < 0)
        ck_abort_msg("the ring is refused: %s", what);
}

/* Every destination of the settings is sent one and refuses one. */
static void count_one_each(struct rig *rig)
{
    struct channel_page *page = rig->fixture.ring.page;
    struct relay_progress relay;
    struct decimate_progress decimate;
    struct tally tally;
    for (int use = DESTINATION_IS_RELAY; use <= DESTINATION_IS_DECIMATE; use++) {
        bool is_relay = use == DESTINATION_IS_RELAY;
        ck_assert_int_eq(tally_open(&tally, &rig->channel, (enum destination_use)use), 0);
        for (uint32_t i = 0; i < (is_relay ? rig->spec->relay_count : rig->spec->decimate_count);
             i++) {
            ck_assert_uint_eq(tally.counts[i].sent, 0);
            tally.counts[i].sent++;
            tally.counts[i].dropped++;
        }
        const struct destination_tally counts = tally_of(&tally);
        ck_assert(channel_page_read_relay(page, &relay));
        ck_assert(channel_page_read_decimate(page, &decimate));
        if (is_relay)
            channel_page_write_relay(page, &relay, &counts);
        else
            channel_page_write_decimate(page, &decimate, &counts);
        tally_close(&tally);
    }
}

static void expect_counted(const struct rig *rig, uint64_t relays, uint64_t decimates)
{
    struct counters counters;
    uint64_t pending;
    ck_assert(channel_page_counters(rig->fixture.ring.page, rig->spec, &rig->fixture.geometry,
                                    &counters, &pending));
    ck_assert_uint_eq(counters.value[COUNTER_relayed], relays);
    ck_assert_uint_eq(counters.value[COUNTER_relay_dropped], relays);
    ck_assert_uint_eq(counters.value[COUNTER_decimated], decimates);
    ck_assert_uint_eq(counters.value[COUNTER_decimate_lost], decimates);
}

START_TEST(a_ring_outlives_any_number_of_lists)
{
    static const uint32_t relays[] = {240, 239, 120, 0, 1, 119, 240, 0};
    static const uint32_t decimates[] = {0, 0, 119, 240, 238, 121, 0, 239};
    struct rig rig;
    uint64_t relayed = 0, decimated = 0;
    char name[32];
    open_rig(&rig);
    for (uint32_t round = 0; round < 4 * 8; round++) {
        snprintf(name, sizeof name, "r%u", round);
        set_names(&rig, relays[round % 8], decimates[round % 8], name);
        take_over(&rig);
        expect_counted(&rig, relayed, decimated);
        count_one_each(&rig);
        relayed += relays[round % 8];
        decimated += decimates[round % 8];
        expect_counted(&rig, relayed, decimated);
    }
    close_rig(&rig);
}
END_TEST

START_TEST(one_of_as_many_as_there_are_places_is_renamed)
{
    struct rig rig;
    struct destination_progress counts;
    open_rig(&rig);
    set_names(&rig, CHANNEL_DESTINATIONS_MAX, 0, "to");
    take_over(&rig);
    count_one_each(&rig);
    strcpy(rig.spec->destinations[17].name, "renamed");
    take_over(&rig);
    expect_counted(&rig, CHANNEL_DESTINATIONS_MAX, 0);
    for (uint32_t i = 0; i < CHANNEL_DESTINATIONS_MAX; i++) {
        ck_assert(
            channel_page_read_destination(rig.fixture.ring.page, rig.channel.places[i], &counts));
        ck_assert_uint_eq(counts.sent, i == 17 ? 0 : 1);
    }
    close_rig(&rig);
}
END_TEST

static uint64_t sent_from(const struct rig *rig, uint32_t index)
{
    return channel_page_sent_from(rig->fixture.ring.page, rig->channel.places[index]);
}

START_TEST(who_is_new_or_comes_back_begins_here)
{
    struct rig rig;
    open_rig(&rig);
    set_names(&rig, 1, 1, "to");
    take_over(&rig);
    ck_assert_uint_eq(sent_from(&rig, 0), 1000);
    for (int i = 0; i < 5; i++)
        ring_fixture_write(&rig.fixture.writer, "abc", 3);
    take_over(&rig);
    ck_assert_uint_eq(sent_from(&rig, 0), 1000);
    ck_assert_uint_eq(sent_from(&rig, 1), 1000);
    set_names(&rig, 1, 1, "other");
    take_over(&rig);
    ck_assert_uint_eq(sent_from(&rig, 0), 1005);
    ck_assert_uint_eq(sent_from(&rig, 1), 1005);
    ring_fixture_write(&rig.fixture.writer, "abc", 3);
    set_names(&rig, 1, 1, "to");
    take_over(&rig);
    ck_assert_uint_eq(sent_from(&rig, 0), 1006);
    ck_assert_uint_eq(sent_from(&rig, 1), 1006);
    close_rig(&rig);
}
END_TEST

/* Taken out of the settings and put back, and no worker came in between. */
START_TEST(who_was_away_while_no_worker_was_there_is_sent_what_waits)
{
    struct rig rig;
    open_rig(&rig);
    set_names(&rig, 1, 1, "to");
    take_over(&rig);
    for (int i = 0; i < 5; i++)
        ring_fixture_write(&rig.fixture.writer, "abc", 3);
    set_names(&rig, 1, 1, "other");
    set_names(&rig, 1, 1, "to");
    take_over(&rig);
    ck_assert_uint_eq(sent_from(&rig, 0), 1000);
    ck_assert_uint_eq(sent_from(&rig, 1), 1000);
    close_rig(&rig);
}
END_TEST

START_TEST(one_wrong_bit_keeps_nothing_from_anybody)
{
    struct rig rig;
    open_rig(&rig);
    set_names(&rig, 1, 0, "to");
    take_over(&rig);
    for (int i = 0; i < 100; i++)
        ring_fixture_write(&rig.fixture.writer, "abc", 3);
    for (int bit = 0; bit < 64; bit++) {
        struct destination_rate *rate =
            &rig.fixture.ring.page->private.rates[rig.channel.places[0]];
        atomic_fetch_xor(&rate->sent, 1ull << bit);
        ck_assert_uint_eq(sent_from(&rig, 0), 0);
        atomic_fetch_xor(&rate->sent, 1ull << bit);
        atomic_fetch_xor(&rate->attempted, 1ull << bit);
        ck_assert_uint_eq(sent_from(&rig, 0), 0);
        atomic_fetch_xor(&rate->attempted, 1ull << bit);
        ck_assert_uint_eq(sent_from(&rig, 0), 1000);
    }
    close_rig(&rig);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("destination_places");
    TCase *lists = tcase_create("lists");
    tcase_set_timeout(lists, 60);
    tcase_add_test(lists, a_ring_outlives_any_number_of_lists);
    tcase_add_test(lists, one_of_as_many_as_there_are_places_is_renamed);
    tcase_add_test(lists, who_is_new_or_comes_back_begins_here);
    tcase_add_test(lists, who_was_away_while_no_worker_was_there_is_sent_what_waits);
    tcase_add_test(lists, one_wrong_bit_keeps_nothing_from_anybody);
    suite_add_tcase(suite, lists);
    return unit_run(suite);
}
