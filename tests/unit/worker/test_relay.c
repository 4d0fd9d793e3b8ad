/* SPDX-License-Identifier: MIT */
/* The relay with much to do at once, as after a takeover or with large joined runs: it offers all
 * of it, notes how far it came, and gives signs of life on the way. */
#include "worker/channel/relay.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/channel_page.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/udp_pair.h"
#include "tests/lib/unit.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/outlet.h"

static const struct ring_fixture_settings settings = {
    .ring_size = 1 << 20, .max_datagram = 1000, .relay_count = 1};

struct scene {
    struct ring_fixture fixture;
    struct udp_pair pair; /* the destination's two ends */
    struct inheritance inheritance;
    struct channel_spec *spec;
    struct channel_state channel;
    int destination;
};

static void begin(struct scene *scene)
{
    memset(scene, 0, sizeof *scene);
    ring_fixture_open(&scene->fixture, &settings);
    udp_pair_open(&scene->pair, &(struct udp_pair_settings){.family = AF_INET});
    scene->spec = calloc(1, channel_spec_size(1));
    ck_assert_ptr_nonnull(scene->spec);
    scene->spec->relay_count = 1;
    strcpy(scene->spec->destinations[0].name, "to-0");
    scene->destination = scene->pair.tx;
    scene->inheritance = (struct inheritance){
        .spec = scene->spec, .rx = scene->pair.rx, .destinations = &scene->destination};
    ck_assert_int_eq(channel_state_open(&scene->channel, &scene->inheritance), 0);
    scene->channel.ring = scene->fixture.ring;
    ck_assert_int_eq(relay_open(&scene->channel), 0);
}

/* So many more are published; then the relay's turn. */
static void relay(struct scene *scene, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        ring_fixture_write(&scene->fixture.writer, "x", 1);
    scene->channel.writer = scene->fixture.writer;
    relay_run(&scene->channel);
}

static uint64_t last_sign_of_life(const struct scene *scene)
{
    return atomic_load(&scene->fixture.ring.page->private.beats[CHANNEL_THREAD_RECEIVER].beat_ns);
}

START_TEST(it_gives_signs_of_life_while_it_has_much_to_do)
{
    static struct scene scene; /* a worker never gives back what it has begun with */
    struct relay_progress progress;
    begin(&scene);
    relay(&scene, PARCEL_MAX);
    ck_assert_uint_eq(last_sign_of_life(&scene), 0); /* the receiver gives one in each round */
    relay(&scene, 3 * PARCEL_MAX);
    ck_assert_uint_gt(last_sign_of_life(&scene), 0);
    ck_assert(channel_page_read_relay(scene.fixture.ring.page, &progress));
    ck_assert_uint_eq(progress.next_seq, 4 * PARCEL_MAX);
    udp_pair_close(&scene.pair);
    ring_fixture_close(&scene.fixture);
    free(scene.spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("relay");
    TCase *cases = tcase_create("relay");
    tcase_add_test(cases, it_gives_signs_of_life_while_it_has_much_to_do);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
