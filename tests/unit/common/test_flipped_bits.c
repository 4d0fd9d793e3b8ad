/* SPDX-License-Identifier: MIT */
/* One flipped bit in words that no check word covers, in a ring whose channel stands idle, and so
 * in memory that lies there for long. It makes no datagram of what lies in the ring from the lap
 * before; a sound ring, at every moment of its life, is none of that. (What a batch's own words
 * say: test_inflight.c. Violent damage: test_scribble.c.) */
#include <check.h>
#include <string.h>

#include "common/channel_page.h"
#include "common/channel_page_counters.h"
#include "common/channel_page_check.h"
#include "common/inflight.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"

#define MAX_LENGTH 200u

/* Relays to-0 and to-1, decimate to-2. */
static const struct ring_fixture_settings plain = {.ring_size = 8192,
                                                   .max_datagram = MAX_LENGTH,
                                                   .relay_count = 2,
                                                   .decimate_count = 1,
                                                   .start_seq = 1000,
                                                   .start_position = 640};

static void write_some(struct ring_writer *writer, uint32_t count)
{
    uint8_t payload[MAX_LENGTH];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = (uint32_t)(writer->seq * 37 % (MAX_LENGTH + 1));
        ring_fixture_fill(payload, writer->seq, length);
        ring_fixture_write(writer, payload, length);
    }
}

static const char *verdict(const struct ring_fixture *fixture)
{
    const char *what;
    channel_page_check(fixture->ring.page, fixture->ring.descriptors, &fixture->geometry,
                       RING_FIXTURE_CHANNEL, &what);
    return what;
}

/* Every datagram was relayed, recorded and decimated, and the next batch is armed. */
static void stand_idle(struct ring_fixture *fixture, uint32_t armed)
{
    struct channel_page *page = fixture->ring.page;
    uint64_t end = fixture->writer.seq;
    const struct destination_progress sent[3] = {{9, 1, 0}, {7, 3, 4}, {2, 0, 0}};
    const struct destination_tally relays = {(const uint32_t[]){0, 1}, sent, 2};
    const struct destination_tally decimates = {(const uint32_t[]){2}, sent + 2, 1};
    channel_page_write_relay(page, &(struct relay_progress){.next_seq = end}, &relays);
    channel_page_write_decimate(page, &(struct decimate_progress){.next_seq = end}, &decimates);
    channel_page_write_commit(page,
                              &(struct commit_progress){.next_seq = end, .recorded = end - 1000});
    ring_reserve(&fixture->writer, armed);
    inflight_arm(&fixture->writer, armed);
}

static void every_bit_is_refused(struct ring_fixture *fixture, uint64_t *word, const char *name)
{
    for (uint32_t bit = 0; bit < 64; bit++) {
        *word ^= 1ull << bit;
        if (verdict(fixture)[0] == '\0')
            ck_abort_msg("bit %u of %s: the ring is accepted", bit, name);
        *word ^= 1ull << bit;
        ck_assert_str_eq(verdict(fixture), "");
    }
}

/* Descriptors of the lap before look like datagrams. */
START_TEST(a_flipped_bit_makes_no_datagram_of_an_old_one)
{
    for (uint32_t count = 0; count < 300; count = count * 3 + 1) {
        struct ring_fixture fixture;
        ring_fixture_open(&fixture, &plain);
        struct channel_page *page = fixture.ring.page;
        write_some(&fixture.writer, count);
        stand_idle(&fixture, fixture.geometry.slot_count);
        ck_assert_str_eq(verdict(&fixture), "");
        every_bit_is_refused(&fixture, (uint64_t *)&page->public.published, "published");
        every_bit_is_refused(&fixture, &page->public.start_seq, "start_seq");
        every_bit_is_refused(&fixture, &page->public.start_position, "start_position");
        ring_fixture_close(&fixture);
    }
}
END_TEST

/* What a later version put where there was nothing says nothing in an older ring. */
START_TEST(a_ring_of_before_the_start_was_checked_is_accepted)
{
    struct ring_fixture fixture;
    ring_fixture_open(&fixture, &plain);
    write_some(&fixture.writer, 20);
    stand_idle(&fixture, 1);
    fixture.ring.page->public.start_check = 0;
    ck_assert_str_eq(verdict(&fixture), "");
    ring_fixture_close(&fixture);
}
END_TEST

/* Between any two stores of who arms the next batch, the last one is no longer whole. */
START_TEST(a_batch_that_is_being_armed_says_nothing)
{
    struct ring_fixture fixture;
    ring_fixture_open(&fixture, &plain);
    struct inflight_batch *batch = fixture.ring.batch;
    write_some(&fixture.writer, 20);
    atomic_store(&batch->armed, 0);
    ck_assert_str_eq(verdict(&fixture), "");
    batch->messages[0].msg_len = INFLIGHT_SENTINEL;
    ck_assert_str_eq(verdict(&fixture), "");
    atomic_store(&batch->armed_seq, fixture.writer.seq);
    ck_assert_str_eq(verdict(&fixture), "");
    atomic_store(&batch->armed, 1);
    ck_assert_str_eq(verdict(&fixture), "");
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(a_flipped_bit_of_the_bytes_is_put_right)
{
    const struct channel_spec spec = {.relay_count = 2, .decimate_count = 1};
    for (uint32_t count = 1; count < 300; count = count < 6 ? count + 1 : count * 5) {
        struct ring_fixture fixture;
        struct ring_writer writer;
        struct counters counters;
        uint64_t pending;
        ring_fixture_open(&fixture, &plain);
        write_some(&fixture.writer, count);
        stand_idle(&fixture, 1);
        for (uint32_t bit = 0; bit < 192; bit++) { /* of the last three */
            uint64_t seq = fixture.writer.seq - 1 - bit / 64;
            if (bit / 64 >= count)
                break;
            struct ring_descriptor *it =
                &fixture.ring.descriptors[seq % fixture.geometry.descriptor_count];
            atomic_fetch_xor(&it->bytes_total, 1ull << bit % 64);
            ck_assert_str_eq(verdict(&fixture), "");
            ck_assert(channel_page_counters(fixture.ring.page, &spec, &fixture.geometry, &counters,
                                            &pending));
            ring_writer_open(&writer, &fixture.ring);
            if (counters.value[COUNTER_received_bytes] != fixture.writer.bytes_total ||
                writer.bytes_total != fixture.writer.bytes_total)
                ck_abort_msg("bit %u, %u datagrams: %llu bytes of %llu", bit, count,
                             (unsigned long long)writer.bytes_total,
                             (unsigned long long)fixture.writer.bytes_total);
            atomic_fetch_xor(&it->bytes_total, 1ull << bit % 64);
        }
        ring_fixture_close(&fixture);
    }
}
END_TEST

START_TEST(a_place_that_has_lost_its_use_gets_it_back)
{
    struct ring_fixture fixture;
    struct destination_progress counts = {0};
    ring_fixture_open(&fixture, &plain);
    struct channel_page *page = fixture.ring.page;
    write_some(&fixture.writer, 20);
    stand_idle(&fixture, 1);
    atomic_store(&page->private.places[1].use, DESTINATION_UNUSED);
    atomic_store(&page->private.places[2].use, DESTINATION_UNUSED);
    ck_assert_int_eq(channel_page_place_destination(page, DESTINATION_IS_DECIMATE, "to-2", 0), 2);
    ck_assert_int_eq(channel_page_place_destination(page, DESTINATION_IS_RELAY, "to-1", 0), 1);
    ck_assert(channel_page_read_destination(page, 1, &counts));
    ck_assert_uint_eq(counts.sent + counts.dropped + counts.repeated, 7 + 3 + 4);
    ck_assert(channel_page_read_destination(page, 2, &counts));
    ck_assert_uint_eq(counts.sent + counts.dropped + counts.repeated, 2);
    ck_assert_str_eq(verdict(&fixture), "");
    ring_fixture_close(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("flipped_bits");
    TCase *bits = tcase_create("bits");
    tcase_set_timeout(bits, 60);
    tcase_add_test(bits, a_flipped_bit_makes_no_datagram_of_an_old_one);
    tcase_add_test(bits, a_ring_of_before_the_start_was_checked_is_accepted);
    tcase_add_test(bits, a_batch_that_is_being_armed_says_nothing);
    tcase_add_test(bits, a_flipped_bit_of_the_bytes_is_put_right);
    tcase_add_test(bits, a_place_that_has_lost_its_use_gets_it_back);
    suite_add_tcase(suite, bits);
    return unit_run(suite);
}
