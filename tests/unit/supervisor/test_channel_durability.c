/* SPDX-License-Identifier: MIT */
/* What a channel without a worker asks of the archive, and what it says when that has answered. The
 * story: while a segment from before can't be sealed, the disk is worked no more often than with a
 * worker; and what a worker has said that came and went meanwhile holds. A real page, and a real
 * process as archive, whose end of the socket the test has. */
#include <check.h>
#include <errno.h>
#include <unistd.h>

#include "common/channel_page.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel_durability.h"
#include "supervisor/channel/channel_recording.h"
#include "supervisor/channel/channel_segments.h"
#include "tests/lib/played_child.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"

#define SYNC_NS NS_PER_S
#define TICK_NS (50 * NS_PER_MS)

static struct settings settings = {.log_dir = "/nowhere"};
static sd_event *event;
static struct spares spares;
static struct archive_client client;
static struct ring_fixture fixture;
static struct channel_spec spec = {.name = RING_FIXTURE_CHANNEL,
                                   .record = {.enabled = true, .sync_ns = SYNC_NS}};
static struct channel_host host = {.archive = &client, .settings = &settings};
static struct channel channel;

static const struct segment_grant former = {.name = "engine-1.avro.open", .id = 11, .size = 4096};

static void on_answer(void *data, const char *name, struct message *message)
{
    (void)data;
    (void)name;
    (void)message;
}

static void on_sealed(void *data, const char *name, bool finished)
{
    (void)data;
    (void)name;
    (void)finished;
}

static void on_event(void *data)
{
    (void)data;
}

static void commit(uint64_t offset)
{
    const struct commit_progress progress = {.segment_id = 12, .write_offset = offset};
    channel_page_write_commit(fixture.ring.page, &progress);
}

static void start_archive(void)
{
    static const struct program program = {.worker_path = PLAYED_CHILD_PROGRAM};
    const struct archive_owner owner = {
        .answer = on_answer, .sealed = on_sealed, .back = on_event, .ended = on_event};
    played_child_prepare();
    ck_assert_int_ge(sd_event_new(&event), 0);
    ck_assert_int_eq(spares_init(&spares, event, &program, &settings), 0);
    archive_client_init(&client, event, &spares, &settings, &owner);
    archive_client_start(&client);
    played_child_take(client.child);
}

static void set_up(void)
{
    const struct ring_fixture_settings ring = {.ring_size = 1 << 20, .max_datagram = 1500};
    start_archive();
    ring_fixture_open(&fixture, &ring);
    channel = (struct channel){.host = &host, .spec = &spec};
    channel.hold = (struct hold){
        .page = fixture.ring.page, .segment = STDIN_FILENO, .next = -1, .old_ring = -1};
    channel.hold.segment_grant.id = 12;
    channel.hold.segment_grant.size = 4096;
    commit(1000);
}

static void tear_down(void)
{
    archive_client_free(&client);
    spares_free(&spares);
    played_child_leave();
    ring_fixture_close(&fixture);
    sd_event_unref(event);
}

static void answer(void)
{
    const struct message_synced synced = {.channel = RING_FIXTURE_CHANNEL,
                                          .turn = channel.durability.turn};
    channel_durability_answer(&channel, &synced);
}

static void refuse(void)
{
    const struct message_synced synced = {.channel = RING_FIXTURE_CHANNEL,
                                          .turn = channel.durability.turn,
                                          .error = EIO,
                                          .refused = 1};
    channel_durability_answer(&channel, &synced);
}

static uint64_t durable(void)
{
    return channel_page_durable(fixture.ring.page, 12);
}

static monotonic after(monotonic begin, uint64_t ns)
{
    return (monotonic){begin.ns + ns};
}

START_TEST(beside_a_segment_that_is_not_sealed_it_is_asked_once_an_interval)
{
    const struct seal_order order = {.began_as = "", .length = 4000};
    monotonic now = monotonic_now();
    archive_client_seal(&client, RING_FIXTURE_CHANNEL, &former, &order);
    played_child_hears(MESSAGE_SEAL);
    channel_durability_look(&channel, now);
    played_child_hears(MESSAGE_SYNC);
    answer();
    ck_assert_uint_eq(durable(), 0); /* what is before it may not be */
    for (uint64_t later = TICK_NS; later < SYNC_NS; later += TICK_NS) {
        channel_durability_look(&channel, after(now, later));
        ck_assert_msg(!channel.durability.asked, "asked again after %llu ms",
                      (unsigned long long)(later / NS_PER_MS));
    }
    channel_durability_look(&channel, after(now, SYNC_NS));
    played_child_hears(MESSAGE_SYNC);
}
END_TEST

START_TEST(as_soon_as_that_one_is_sealed_it_is_asked_again)
{
    const struct seal_order order = {.began_as = "", .length = 4000};
    const struct message_sealed sealed = {.channel = RING_FIXTURE_CHANNEL, .id = former.id};
    monotonic now = monotonic_now();
    archive_client_seal(&client, RING_FIXTURE_CHANNEL, &former, &order);
    channel_durability_look(&channel, now);
    answer();
    played_child_says(client.child, MESSAGE_SEALED, &sealed, sizeof sealed);
    channel_durability_look(&channel, after(now, TICK_NS));
    ck_assert(channel.durability.asked);
    answer();
    ck_assert_uint_eq(durable(), 1000);
}
END_TEST

/* A worker that goes on there would meet the refusal itself, but dies before that. */
START_TEST(what_was_refused_beside_a_worker_is_copied_when_none_is_left)
{
    channel_durability_look(&channel, monotonic_now());
    played_child_hears(MESSAGE_SYNC);
    channel.life.state = CHANNEL_STARTING;
    refuse();
    channel_segments_save_refused(&channel);
    ck_assert_int_ge(channel.hold.segment, 0);
    channel.life.state = CHANNEL_FAILED;
    channel_segments_save_refused(&channel);
    ck_assert_int_lt(channel.hold.segment, 0);
    const struct message_seal *seal = played_child_hears(MESSAGE_SEAL)->seal;
    ck_assert_uint_eq(seal->id, 12);
    ck_assert_uint_eq(seal->copy, 1);
    ck_assert_uint_eq(seal->length, 1000); /* what lies behind is recorded again */
    ck_assert_uint_eq(durable(), 0);
}
END_TEST

/* RECOVER is told what is in use; one that is on its way is not known yet. */
START_TEST(nothing_is_recovered_while_a_segment_is_being_handed_out)
{
    channel.recording.state = RECORDING_OPEN;
    channel.recording.recovered = true;
    channel.recording.unfinished = 1;
    channel.recording.next_requested = true;
    channel_recording_clean_again(&channel);
    ck_assert(!channel.recording.cleaning);
    channel.recording.next_requested = false;
    channel_recording_clean_again(&channel);
    ck_assert(channel.recording.cleaning);
    played_child_hears(MESSAGE_RECOVER);
}
END_TEST

START_TEST(what_a_worker_said_that_came_and_went_meanwhile_holds)
{
    channel_durability_look(&channel, monotonic_now());
    played_child_hears(MESSAGE_SYNC);
    commit(3000);
    channel_page_write_durable(fixture.ring.page, 12, 2000);
    answer();
    ck_assert_uint_eq(durable(), 2000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel_durability");
    TCase *tcase = tcase_create("without a worker");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, nothing_is_recovered_while_a_segment_is_being_handed_out);
    tcase_add_test(tcase, what_was_refused_beside_a_worker_is_copied_when_none_is_left);
    tcase_add_test(tcase, beside_a_segment_that_is_not_sealed_it_is_asked_once_an_interval);
    tcase_add_test(tcase, as_soon_as_that_one_is_sealed_it_is_asked_again);
    tcase_add_test(tcase, what_a_worker_said_that_came_and_went_meanwhile_holds);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
