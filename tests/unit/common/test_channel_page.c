/* SPDX-License-Identifier: MIT */
/* The page that generations share. Flips: a reader never sees a mixed slot while another thread
 * flips. Check words: any changed bit is noticed. The check before a takeover: each rule on its own
 * (test_scribble.c is its violent half). The ledger as status shows it. */
#include "common/channel_page.h"
#include "common/channel_page_counters.h"
#include "common/channel_page_check.h"
#include "common/channel_page_refused.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/inflight.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"

#if defined(__SANITIZE_THREAD__)
#define FLIPS 100000u
#else
#define FLIPS 500000u
#endif
#define MAX_LENGTH 200u

static const struct ring_fixture_settings plain = {.ring_size = 8192,
                                                   .max_datagram = MAX_LENGTH,
                                                   .relay_count = 2,
                                                   .decimate_count = 1,
                                                   .start_seq = 1000,
                                                   .start_position = 640};

/* ---- flips ---- */

struct flipper {
    struct channel_page *page;
    _Atomic bool done;
};

static void flip(struct channel_page *page, uint64_t n)
{
    struct destination_progress counts[2] = {{n, n + 1, n + 2}, {n + 3, n + 4, n + 5}};
    const struct destination_tally relays = {(const uint32_t[]){0, 1}, counts, 2};
    const struct destination_tally decimates = {(const uint32_t[]){2}, counts, 1};
    channel_page_write_relay(page, &(struct relay_progress){n, n + 1, n + 2}, &relays);
    channel_page_write_commit(page, &(struct commit_progress){n, n + 1, n + 2, n + 3, n + 4, n + 5,
                                                              n + 6, n + 7, n + 8, n + 9, n + 10});
    channel_page_write_decimate(page, &(struct decimate_progress){n, n + 1}, &decimates);
}

static void *flipper_main(void *argument)
{
    struct flipper *flipper = argument;
    for (uint64_t n = 1; n <= FLIPS; n++)
        flip(flipper->page, n);
    atomic_store(&flipper->done, true);
    return NULL;
}

static bool consecutive(const void *progress, size_t size)
{
    const uint64_t *words = progress;
    for (size_t i = 1; i < size / sizeof *words; i++)
        if (words[i] != words[0] + i)
            return false;
    return true;
}

START_TEST(a_reader_never_sees_a_mixed_slot)
{
    struct ring_fixture fixture;
    pthread_t thread;
    uint64_t read = 0, mixed = 0, backwards = 0, before = 0;
    ring_fixture_open(&fixture, &plain);
    const struct channel_page *page = fixture.ring.page;
    struct flipper flipper = {.page = fixture.ring.page};
    flip(fixture.ring.page, 1);
    ck_assert_int_eq(pthread_create(&thread, NULL, flipper_main, &flipper), 0);
    while (!atomic_load(&flipper.done)) {
        struct relay_progress relay;
        struct commit_progress commit;
        struct decimate_progress decimate;
        struct destination_progress first, third;
        if (!channel_page_read_relay(page, &relay) || !channel_page_read_commit(page, &commit) ||
            !channel_page_read_decimate(page, &decimate) ||
            !channel_page_read_destination(page, 0, &first) ||
            !channel_page_read_destination(page, 2, &third))
            continue; /* it flipped at every try */
        read++;
        mixed += !consecutive(&relay, sizeof relay) || !consecutive(&commit, sizeof commit) ||
                 !consecutive(&decimate, sizeof decimate) || !consecutive(&first, sizeof first) ||
                 !consecutive(&third, sizeof third);
        backwards += commit.segment_id < before || first.sent < relay.next_seq;
        before = commit.segment_id;
    }
    pthread_join(thread, NULL);
    ck_assert_uint_gt(read, 100);
    ck_assert_uint_eq(mixed, 0);
    ck_assert_uint_eq(backwards, 0);
    struct commit_progress last;
    ck_assert(channel_page_read_commit(page, &last));
    ck_assert_uint_eq(last.segment_id, FLIPS);
    ring_fixture_close(&fixture);
}
END_TEST

/* Flip each bit of the words and see it noticed, every time. */
static void every_bit_matters(_Atomic uint64_t *words, size_t size,
                              bool (*is_sound)(const struct channel_page *page),
                              const struct channel_page *page)
{
    ck_assert(is_sound(page));
    for (size_t word = 0; word < size / sizeof *words; word++)
        for (int bit = 0; bit < 64; bit++) {
            atomic_fetch_xor(&words[word], 1ull << bit);
            if (is_sound(page))
                ck_abort_msg("bit %d of word %zu is not covered", bit, word);
            atomic_fetch_xor(&words[word], 1ull << bit);
        }
    ck_assert(is_sound(page));
}

static bool relay_is_sound(const struct channel_page *page)
{
    struct relay_progress progress;
    return channel_page_read_relay(page, &progress);
}

static bool commit_is_sound(const struct channel_page *page)
{
    struct commit_progress progress;
    return channel_page_read_commit(page, &progress);
}

static bool decimate_is_sound(const struct channel_page *page)
{
    struct decimate_progress progress;
    return channel_page_read_decimate(page, &progress);
}

static bool destination_is_sound(const struct channel_page *page)
{
    struct destination_progress progress;
    return channel_page_read_destination(page, 1, &progress);
}

START_TEST(every_bit_of_a_slot_is_covered)
{
    struct ring_fixture fixture;
    ring_fixture_open(&fixture, &plain);
    struct channel_page *page = fixture.ring.page;
    for (uint64_t n = 1; n <= 4; n++) { /* both slots of each pair */
        flip(page, n * 77);
        uint64_t relay = atomic_load(&page->private.relay_version) & 1,
                 commit = atomic_load(&page->public.commit_version) & 1;
        uint64_t decimate = atomic_load(&page->private.decimate_version) & 1;
        every_bit_matters(&page->private.relay[relay].next_seq, sizeof page->private.relay[0],
                          relay_is_sound, page);
        every_bit_matters(&page->public.commit[commit].segment_id, sizeof page->public.commit[0],
                          commit_is_sound, page);
        every_bit_matters(&page->private.decimate[decimate].next_seq,
                          sizeof page->private.decimate[0], decimate_is_sound, page);
        every_bit_matters(&page->private.places[1].slots[relay].sent,
                          sizeof page->private.places[1].slots[0], destination_is_sound, page);
    }
    struct destination_progress progress;
    ck_assert(!channel_page_read_destination(page, CHANNEL_DESTINATIONS_MAX, &progress));
    ck_assert(!channel_page_read_destination(page, UINT32_MAX, &progress));
    ring_fixture_close(&fixture);
}
END_TEST

/* ---- the check's rules, one by one ---- */

static void write_some(struct ring_writer *writer, uint32_t count)
{
    uint8_t payload[MAX_LENGTH];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = (uint32_t)(writer->seq * 37 % (MAX_LENGTH + 1));
        ring_fixture_fill(payload, writer->seq, length);
        ring_fixture_write(writer, payload, length);
    }
}

static const char *verdict(const struct ring_fixture *fixture, const char *channel)
{
    const char *what;
    int result = channel_page_check(fixture->ring.page, fixture->ring.descriptors,
                                    &fixture->geometry, channel, &what);
    ck_assert_int_eq(result, *what ? -EBADMSG : 0);
    return what;
}

#define REFUSED_WITH(word, value, text)                                                            \
    do {                                                                                           \
        __typeof__(word) saved = (word);                                                           \
        (word) = (value);                                                                          \
        ck_assert_str_eq(verdict(&fixture, RING_FIXTURE_CHANNEL), text);                           \
        (word) = saved;                                                                            \
        ck_assert_str_eq(verdict(&fixture, RING_FIXTURE_CHANNEL), "");                             \
    } while (0)

START_TEST(each_rule_says_what_is_wrong)
{
    struct ring_fixture fixture;
    ring_fixture_open(&fixture, &plain);
    struct channel_page *page = fixture.ring.page;
    ck_assert_str_eq(verdict(&fixture, RING_FIXTURE_CHANNEL), "");
    write_some(&fixture.writer, 5);
    struct inflight_batch *batch = fixture.ring.batch;
    struct ring_descriptor *last =
        &fixture.ring.descriptors[1004 % fixture.geometry.descriptor_count];

    ck_assert_str_eq(verdict(&fixture, "engine2"), "it belongs to another channel");
    REFUSED_WITH(page->private.converted, RING_TO_BE_CONVERTED,
                 "the ring of an older version that it was to take in is missing");
    REFUSED_WITH(page->public.magic, 1, "no channel page (magic)");
    REFUSED_WITH(page->public.version, 1, "a channel page of another version");
    REFUSED_WITH(page->private.version, 3, "a channel page of another version");
    REFUSED_WITH(page->public.struct_size, 8, "a channel page of another version");
    REFUSED_WITH(page->private.struct_size, 8, "a channel page of another version");
    REFUSED_WITH(page->private.magic, 1, "no channel page (magic)");
    REFUSED_WITH(page->private.pair, 1,
                 "its public and its private memory belong to different rings");
    REFUSED_WITH(page->public.geometry.data_capacity, 4096,
                 "the layout is not that of the configuration");
    REFUSED_WITH(page->public.published, 999, "the published position is impossible");
    REFUSED_WITH(page->public.published, 1ull << 63, "the published position is impossible");
    REFUSED_WITH(page->public.published, 1100,
                 "the published position and the in-flight batch disagree");
    REFUSED_WITH(page->public.published, 1003,
                 "the published position and the in-flight batch disagree");
    REFUSED_WITH(batch->count, 65, "the in-flight batch is longer than it can be");
    REFUSED_WITH(page->public.reserved_position, UINT64_MAX - 64,
                 "the reserved position is impossible");
    REFUSED_WITH(page->public.reserved_position, 1ull << 40,
                 "the in-flight batch lies outside the reserved part of the ring");
    REFUSED_WITH(batch->armed_position, 1ull << 40,
                 "the in-flight batch lies outside the reserved part of the ring");
    REFUSED_WITH(batch->armed_position, 0,
                 "the in-flight batch lies outside the reserved part of the ring");
    REFUSED_WITH(page->private.relay[1].next_seq, 1001, "the relay's position is damaged");
    REFUSED_WITH(page->public.commit[1].next_seq, 1001, "the log's commit slot is damaged");
    REFUSED_WITH(page->private.decimate[1].next_seq, 1001, "the decimator's position is damaged");
    REFUSED_WITH(page->private.places[2].slots[1].sent, 9, "a destination's counters are damaged");
    REFUSED_WITH(page->sums[0].use, DESTINATION_IS_RELAY, "a destination's counters are damaged");
    REFUSED_WITH(page->sums[1].slots[0].sent, 1,
                 "the counters of destinations that are gone are damaged");
    REFUSED_WITH(page->private.relay_attempted, 1006,
                 "what was attempted to be sent is impossible");
    REFUSED_WITH(page->private.decimate_attempted, 999,
                 "what was attempted to be sent is impossible");
    REFUSED_WITH(page->public.reserved_seq, 1004, "the reserved sequence number is impossible");
    REFUSED_WITH(page->public.reserved_seq, 1100, "the reserved sequence number is impossible");
    REFUSED_WITH(last->length_cut, 300ull << 32, "a datagram is longer than its slot");
    REFUSED_WITH(last->position, 1ull << 40,
                 "a datagram lies outside the reserved part of the ring");
    REFUSED_WITH(last->position, 640, "two datagrams overlap");
    REFUSED_WITH(last->origin, RING_FAMILY_LOCAL, ""); /* a publisher's is sound */
    REFUSED_WITH(last->origin, 5,
                 "a datagram's source is neither IPv4 nor IPv6 nor a local program");

    /* A sound check word does not make an impossible value possible. */
    const struct destination_progress none[2] = {0};
    const struct destination_tally relays = {(const uint32_t[]){0, 1}, none, 2};
    const struct destination_tally decimates = {(const uint32_t[]){2}, none, 1};
    channel_page_write_relay(page, &(struct relay_progress){.next_seq = 1006}, &relays);
    ck_assert_str_eq(verdict(&fixture, RING_FIXTURE_CHANNEL), "the relay's position is damaged");
    channel_page_write_relay(page, &(struct relay_progress){.next_seq = 1005}, &relays);
    channel_page_write_decimate(page, &(struct decimate_progress){.next_seq = 1005}, &decimates);
    channel_page_write_commit(page, &(struct commit_progress){.next_seq = 1005, .recorded = 6});
    ck_assert_str_eq(verdict(&fixture, RING_FIXTURE_CHANNEL), "the log's commit slot is damaged");
    channel_page_write_commit(
        page, &(struct commit_progress){.next_seq = 1005, .recorded = 4, .record_lost = 2});
    ck_assert_str_eq(verdict(&fixture, RING_FIXTURE_CHANNEL), "the log's commit slot is damaged");
    channel_page_write_commit(
        page, &(struct commit_progress){.next_seq = 1005, .recorded = 4, .record_lost = 1});
    ck_assert_str_eq(verdict(&fixture, RING_FIXTURE_CHANNEL), "");
    /* Nothing is pending, but the writer continues from the last datagram: it is still looked at.
     */
    REFUSED_WITH(last->position, 1ull << 40,
                 "a datagram lies outside the reserved part of the ring");
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(the_ledger_adds_up)
{
    struct ring_fixture fixture;
    struct counters counters;
    uint64_t pending, bytes = 0;
    ring_fixture_open(&fixture, &plain);
    struct channel_spec spec = {.relay_count = 2, .decimate_count = 1, .record = {.enabled = 1}};
    struct channel_page *page = fixture.ring.page;
    for (uint64_t seq = 1000; seq < 1010; seq++)
        bytes += seq * 37 % (MAX_LENGTH + 1);
    write_some(&fixture.writer, 10);
    const struct destination_tally relays = {
        (const uint32_t[]){0, 1}, (const struct destination_progress[]){{9, 1, 0}, {7, 3, 4}}, 2};
    const struct destination_tally decimates = {
        (const uint32_t[]){2}, (const struct destination_progress[]){{2, 6, 0}}, 1};
    channel_page_write_relay(page, &(struct relay_progress){1010, 2, 3}, &relays);
    channel_page_write_decimate(page, &(struct decimate_progress){1010, 5}, &decimates);
    channel_page_write_commit(
        page, &(struct commit_progress){.next_seq = 1008, .recorded = 7, .record_lost = 1});
    ck_assert(channel_page_counters(page, &spec, &fixture.geometry, &counters, &pending));
    ck_assert_uint_eq(counters.value[COUNTER_received], 10);
    ck_assert_uint_eq(counters.value[COUNTER_received_bytes], bytes);
    ck_assert_uint_eq(counters.value[COUNTER_relayed], 16);
    ck_assert_uint_eq(counters.value[COUNTER_relay_dropped], 4);
    ck_assert_uint_eq(counters.value[COUNTER_relay_repeated], 4);
    ck_assert_uint_eq(counters.value[COUNTER_truncated], 2);
    ck_assert_uint_eq(counters.value[COUNTER_kernel_dropped], 3);
    ck_assert_uint_eq(counters.value[COUNTER_decimated], 2);
    ck_assert_uint_eq(counters.value[COUNTER_decimate_lost], 11);
    ck_assert_uint_eq(
        counters.value[COUNTER_recorded] + counters.value[COUNTER_record_lost] + pending, 10);
    /* A number that nobody has given must not be believed: all later ones would be beyond it. */
    atomic_store(&page->public.reserved_seq, INT64_MAX);
    atomic_store(&page->public.published, INT64_MAX);
    ck_assert(!channel_page_counters(page, &spec, &fixture.geometry, &counters, &pending));
    atomic_store(&page->public.published, 999);
    ck_assert(!channel_page_counters(page, &spec, &fixture.geometry, &counters, &pending));
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(a_destination_has_its_place_by_its_name)
{
    struct ring_fixture fixture;
    struct destination_progress counts = {0};
    char name[CHANNEL_NAME_SIZE];
    ring_fixture_open(&fixture, &plain); /* relays to-0 and to-1, decimate to-2 */
    struct channel_page *page = fixture.ring.page;
    const struct destination_tally relays = {
        (const uint32_t[]){0, 1}, (const struct destination_progress[]){{9, 1, 0}, {7, 3, 4}}, 2};
    for (int flips = 0; flips < 3; flips++)
        channel_page_write_relay(page, &(struct relay_progress){1000, 0, 0}, &relays);
    ck_assert_int_eq(channel_page_find_destination(page, DESTINATION_IS_RELAY, "to-1"), 1);
    ck_assert_int_eq(channel_page_find_destination(page, DESTINATION_IS_DECIMATE, "to-1"), -1);
    ck_assert_int_eq(channel_page_find_destination(page, DESTINATION_IS_RELAY, "to"), -1);
    ck_assert_int_eq(channel_page_find_destination(page, DESTINATION_IS_RELAY, ""), -1);

    ck_assert_int_eq(channel_page_place_destination(page, DESTINATION_IS_RELAY, "to-1", 0), 1);
    ck_assert(channel_page_read_destination(page, 1, &counts));
    ck_assert_uint_eq(counts.sent, 7);
    ck_assert_int_eq(channel_page_place_destination(page, DESTINATION_IS_DECIMATE, "to-1", 0), 3);
    ck_assert(channel_page_read_destination(page, 3, &counts));
    ck_assert_uint_eq(counts.sent + counts.dropped + counts.repeated, 0);
    ck_assert(!channel_page_read_destination(page, 4, &counts));
    ck_assert_str_eq(verdict(&fixture, RING_FIXTURE_CHANNEL), "");

    for (int i = 4; i < CHANNEL_DESTINATIONS_MAX; i++) {
        snprintf(name, sizeof name, "another-%d", i);
        ck_assert_int_eq(channel_page_place_destination(page, DESTINATION_IS_RELAY, name, 0), i);
    }
    ck_assert_int_eq(channel_page_place_destination(page, DESTINATION_IS_RELAY, "one-more", 0), -1);
    ck_assert_int_eq(channel_page_place_destination(page, DESTINATION_IS_RELAY, "to-0", 0), 0);
    ck_assert_str_eq(verdict(&fixture, RING_FIXTURE_CHANNEL), "");
    memset(page->private.places[7].name, 'x', CHANNEL_NAME_SIZE);
    ck_assert_str_eq(verdict(&fixture, RING_FIXTURE_CHANNEL), "a destination's name is damaged");
    ring_fixture_close(&fixture);
}
END_TEST

/* ---- what the disk has refused ---- */

static bool is_even(void *data, uint64_t segment_id)
{
    (void)data;
    return segment_id % 2 == 0;
}

START_TEST(no_refusal_is_lost_for_want_of_room)
{
    struct ring_fixture fixture;
    ring_fixture_open(&fixture, &plain);
    struct channel_page *page = fixture.ring.page;
    ck_assert(!channel_page_any_refused(page) && !channel_page_was_refused(page, 7));
    for (int again = 0; again < 2 * CHANNEL_REFUSED_MAX; again++)
        channel_page_note_refused(page, 7);
    ck_assert(channel_page_was_refused(page, 7) && !channel_page_was_refused(page, 8));
    channel_page_forget_refused(page, 8);
    ck_assert(channel_page_was_refused(page, 7));
    channel_page_forget_refused(page, 7);
    ck_assert(!channel_page_any_refused(page));
    for (uint64_t id = 1; id <= CHANNEL_REFUSED_MAX; id++)
        channel_page_note_refused(page, id);
    ck_assert(!channel_page_was_refused(page, 100));
    channel_page_note_refused(page, 100);
    channel_page_forget_refused(page, 1);
    ck_assert_msg(channel_page_was_refused(page, 100) && channel_page_was_refused(page, 101),
                  "one that there was no room for may be any");
    ck_assert_msg(!channel_page_was_refused(page, 0), "but none is none");
    channel_page_settle_refused(page, is_even, NULL);
    ck_assert(channel_page_was_refused(page, 2) && channel_page_was_refused(page, 4));
    ck_assert(!channel_page_was_refused(page, 3) && !channel_page_was_refused(page, 100));
    ring_fixture_close(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel_page");
    TCase *page = tcase_create("page");
    tcase_set_timeout(page, 120);
    tcase_add_test(page, a_reader_never_sees_a_mixed_slot);
    tcase_add_test(page, every_bit_of_a_slot_is_covered);
    tcase_add_test(page, each_rule_says_what_is_wrong);
    tcase_add_test(page, the_ledger_adds_up);
    tcase_add_test(page, a_destination_has_its_place_by_its_name);
    tcase_add_test(page, no_refusal_is_lost_for_want_of_room);
    suite_add_tcase(suite, page);
    return unit_run(suite);
}
