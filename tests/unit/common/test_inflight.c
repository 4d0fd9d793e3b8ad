/* SPDX-License-Identifier: MIT */
/* The receive path with real sockets: arm, recvmmsg(2), publish. Every length from 0 to beyond
 * max_datagram, both address families, kernel time, the kernel's drop counter to the datagram, and
 * coalesced runs (UDP_GRO) taken apart into the datagrams they were, also across the wrap. What a
 * killed worker leaves is test_inflight_crash.c's story. */
#include "common/inflight.h"
#include "common/inflight_delivered.h"

#include <check.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

#include "common/monotonic.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/udp_pair.h"
#include "tests/lib/unit.h"

#define MAX_DATAGRAM 1000u

static const enum ring_mapping_wanted mappings[] = {RING_MAPPING_DOUBLE, RING_MAPPING_MIRROR};

static void open_ring(struct ring_fixture *fixture, int index, uint32_t offload)
{
    struct ring_fixture_settings settings = {.ring_size = 65536,
                                             .max_datagram = MAX_DATAGRAM,
                                             .receive_offload = offload,
                                             .mapping = mappings[index]};
    ring_fixture_open(fixture, &settings);
}

/* The datagram `seq` holds the first `length` bytes of pattern `number`, from the pair's sender. */
static struct ring_datagram expect(const struct ring_fixture *fixture, const struct udp_pair *pair,
                                   uint64_t seq, uint64_t number, uint32_t length)
{
    struct ring_datagram datagram;
    if (!ring_peek(&fixture->ring, seq, &datagram))
        ck_abort_msg("datagram %llu is gone", (unsigned long long)seq);
    if (datagram.length != length || !ring_fixture_matches(datagram.data, number, length))
        ck_abort_msg("datagram %llu: %u bytes, not the %u that were sent", (unsigned long long)seq,
                     datagram.length, length);
    if (datagram.port != pair->tx_port)
        ck_abort_msg("datagram %llu comes from port %u", (unsigned long long)seq, datagram.port);
    return datagram;
}

static void all_sizes(int index, int family)
{
    static const uint32_t sizes[] = {0,   1,    2,    63,   64,   65,   127, 128,  800,
                                     999, 1000, 1001, 1024, 1025, 5000, 0,   60000};
    static uint8_t payload[65536];
    const struct in6_addr in6_loopback = IN6ADDR_LOOPBACK_INIT;
    struct ring_fixture fixture;
    struct udp_pair pair;
    open_ring(&fixture, index, 0);
    udp_pair_open(&pair, &(struct udp_pair_settings){.family = family});
    for (uint32_t round = 0; round < 30; round++) { /* several times around the ring */
        uint64_t from = fixture.writer.seq, before = realtime_now_ns();
        const uint32_t count = sizeof sizes / sizeof *sizes;
        for (uint32_t i = 0; i < count; i++) {
            ring_fixture_fill(payload, from + i, sizes[i]);
            udp_pair_send(&pair, payload, sizes[i], 0);
            if (i % (round + 1) == 0 || i + 1 == count)
                while (udp_pair_receive(&fixture.writer, pair.rx, fixture.geometry.slot_count))
                    ;
        }
        ck_assert_uint_eq(fixture.writer.seq, from + count);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t kept = sizes[i] < MAX_DATAGRAM ? sizes[i] : MAX_DATAGRAM;
            struct ring_datagram datagram = expect(&fixture, &pair, from + i, from + i, kept);
            bool good = datagram.cut == sizes[i] - kept && datagram.lost_before == 0 &&
                        datagram.time_ns >= before && datagram.time_ns <= realtime_now_ns() &&
                        datagram.family == (family == AF_INET6 ? 6 : 4) &&
                        (family == AF_INET || memcmp(datagram.address, &in6_loopback, 16) == 0);
            if (!good)
                ck_abort_msg("size %u: cut %u, family %u", sizes[i], datagram.cut, datagram.family);
        }
    }
    udp_pair_close(&pair);
    ring_fixture_close(&fixture);
}

START_TEST(every_size_over_ipv4)
{
    all_sizes(_i, AF_INET);
}
END_TEST

START_TEST(every_size_over_ipv6)
{
    all_sizes(_i, AF_INET6);
}
END_TEST

/* The kernel drops on loopback while sendmsg(2) runs, so what is missing in front of each datagram
 * is known exactly. */
START_TEST(the_kernels_drops_are_counted_to_the_datagram)
{
    uint8_t payload[100];
    uint64_t sent = 0, expected_id = 0, lost = 0;
    struct ring_fixture fixture;
    struct udp_pair pair;
    open_ring(&fixture, _i, 0);
    udp_pair_open(&pair, &(struct udp_pair_settings){.family = AF_INET, .receive_buffer = 1});
    for (int round = 0; round < 20; round++) {
        uint64_t seq = fixture.writer.seq;
        for (int i = 0; i < 3 + round * 5; i++, sent++) {
            ring_fixture_fill(payload, sent, sizeof payload);
            memcpy(payload, &sent, sizeof sent);
            udp_pair_send(&pair, payload, sizeof payload, 0);
        }
        while (udp_pair_receive(&fixture.writer, pair.rx, 3))
            ;
        for (; seq < fixture.writer.seq; seq++) {
            struct ring_datagram datagram;
            uint64_t id;
            ck_assert(ring_peek(&fixture.ring, seq, &datagram));
            memcpy(&id, datagram.data, sizeof id);
            if (datagram.lost_before != id - expected_id)
                ck_abort_msg("%u lost before %llu, really %llu", datagram.lost_before,
                             (unsigned long long)id, (unsigned long long)(id - expected_id));
            lost += datagram.lost_before;
            expected_id = id + 1;
        }
        if (round == 10) { /* a successor goes on counting where its predecessor stopped */
            ring_detach(&fixture.ring);
            ring_fixture_attach(&fixture, mappings[_i]);
        }
    }
    ck_assert_uint_gt(lost, 100);
    udp_pair_send(&pair, &sent, sizeof sent, 0);
    ck_assert_uint_eq(udp_pair_receive(&fixture.writer, pair.rx, 3), 1);
    struct ring_datagram last;
    ck_assert(ring_peek(&fixture.ring, fixture.writer.seq - 1, &last));
    ck_assert_uint_eq(last.lost_before, sent - expected_id);
    udp_pair_close(&pair);
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(nothing_there_publishes_nothing)
{
    struct ring_fixture fixture;
    struct udp_pair pair;
    open_ring(&fixture, _i, 0);
    udp_pair_open(&pair, &(struct udp_pair_settings){.family = AF_INET});
    ck_assert_uint_eq(udp_pair_receive(&fixture.writer, pair.rx, 4), 0);
    ck_assert_uint_eq(inflight_recover(&fixture.writer), 0);
    ck_assert_uint_eq(ring_published(&fixture.ring), 0);
    udp_pair_close(&pair);
    ring_fixture_close(&fixture);
}
END_TEST

/* Send `length` bytes as a run of `segment` bytes each, and see them come out one by one. */
static void check_run(struct ring_fixture *fixture, const struct udp_pair *pair, uint32_t length,
                      uint16_t segment)
{
    static uint8_t payload[65536];
    uint64_t seq = fixture->writer.seq;
    uint32_t count = (length + segment - 1) / segment;
    for (uint32_t i = 0; i < count; i++)
        ring_fixture_fill(payload + i * segment, seq + i,
                          i + 1 < count ? segment : length - i * segment);
    udp_pair_send(pair, payload, length, segment);
    uint32_t published = 0;
    for (uint32_t got;
         (got = udp_pair_receive(&fixture->writer, pair->rx, fixture->geometry.slot_count));)
        published += got;
    if (published != count)
        ck_abort_msg("%u bytes in segments of %u: %u datagrams, not %u", length, segment, published,
                     count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t sent = i + 1 < count ? segment : length - i * segment;
        uint32_t kept = sent < MAX_DATAGRAM ? sent : MAX_DATAGRAM;
        struct ring_datagram datagram = expect(fixture, pair, seq + i, seq + i, kept);
        if (datagram.cut != sent - kept)
            ck_abort_msg("cut %u of %u", datagram.cut, sent);
    }
}

START_TEST(coalesced_runs_come_apart)
{
    struct ring_fixture fixture;
    struct udp_pair pair;
    open_ring(&fixture, _i, 1);
    udp_pair_open(&pair, &(struct udp_pair_settings){.family = AF_INET, .offload = true});
    for (int round = 0; round < 40;
         round++) { /* more than twice around the ring, at shifting offsets */
        check_run(&fixture, &pair, 100 * 10 + 37, 100);
        check_run(&fixture, &pair, 800 * 50, 800);
        check_run(&fixture, &pair, 1200 * 5 + 1, 1200); /* each of them longer than max_datagram */
        check_run(&fixture, &pair, 500, 500);           /* a run of one */
        check_run(&fixture, &pair, 64 * 3 + 64 * (uint32_t)round, 64);
    }
    ck_assert_uint_gt(fixture.writer.position, 2 * fixture.geometry.data_capacity);
    udp_pair_close(&pair);
    ring_fixture_close(&fixture);
}
END_TEST

/* Since Linux 6.9 one UDP_SEGMENT call makes up to 128 datagrams, and on loopback they arrive as
 * one run. */
START_TEST(the_longest_run_is_complete)
{
    struct ring_fixture fixture;
    struct udp_pair pair;
    int before_6_9 = 64, most = 128;
    open_ring(&fixture, _i, 1);
    udp_pair_open(&pair, &(struct udp_pair_settings){.family = AF_INET, .offload = true});
    check_run(&fixture, &pair, 20 * (uint32_t)before_6_9, 20);
    char probe[128 * 20] = {0};
    uint16_t segment = 20;
    ck_assert_int_eq(setsockopt(pair.tx, SOL_UDP, UDP_SEGMENT, &(int){segment}, sizeof(int)), 0);
    bool longer = send(pair.tx, probe, sizeof probe, 0) == (ssize_t)sizeof probe;
    ck_assert_int_eq(setsockopt(pair.tx, SOL_UDP, UDP_SEGMENT, &(int){0}, sizeof(int)), 0);
    while (udp_pair_receive(&fixture.writer, pair.rx, 1))
        ;
    if (longer)
        check_run(&fixture, &pair, 20 * (uint32_t)most, 20);
    udp_pair_close(&pair);
    ring_fixture_close(&fixture);
}
END_TEST

/* What the supervisor adds to `received` when it gives up a ring is datagrams, not messages. */
START_TEST(what_nobody_will_publish_is_counted_in_datagrams)
{
    struct ring_fixture fixture;
    struct udp_pair pair;
    static uint8_t payload[1000];
    open_ring(&fixture, _i, 1);
    udp_pair_open(&pair, &(struct udp_pair_settings){.family = AF_INET, .offload = true});
    udp_pair_send(&pair, payload, 1000, 100); /* ten */
    udp_pair_send(&pair, payload, 950, 100);  /* ten, the last one shorter */
    ring_reserve(&fixture.writer, 2);
    struct mmsghdr *messages = inflight_arm(&fixture.writer, 2);
    int count = recvmmsg(pair.rx, messages, 2, MSG_WAITFORONE | MSG_TRUNC, NULL);
    ck_assert_int_eq(count, 2);
    ck_assert_uint_eq(inflight_unpublished(fixture.ring.page, &fixture.geometry), 20);
    ck_assert_uint_eq(inflight_publish(&fixture.writer, 2), 20);
    ck_assert_uint_eq(inflight_unpublished(fixture.ring.page, &fixture.geometry), 0);
    udp_pair_close(&pair);
    ring_fixture_close(&fixture);
}
END_TEST

#define ARMED 4u

/* Nothing was delivered, and one word of one message is damaged, by a bit or altogether. */
START_TEST(no_damage_to_a_sentinel_makes_a_datagram)
{
    static const uint32_t lengths[] = {0, 1, 16, 100, 1000, 65507, 65535, 65536, 1u << 31};
    struct ring_fixture fixture;
    open_ring(&fixture, _i, 0);
    ring_reserve(&fixture.writer, ARMED);
    struct mmsghdr *messages = inflight_arm(&fixture.writer, ARMED);
    for (uint32_t slot = 0; slot < ARMED; slot++)
        for (uint32_t k = 0; k < 32 + sizeof lengths / sizeof *lengths; k++) {
            messages[slot].msg_len = k < 32 ? INFLIGHT_SENTINEL ^ 1u << k : lengths[k - 32];
            if (inflight_unpublished(fixture.ring.page, &fixture.geometry) != 0)
                ck_abort_msg("a length of %u in slot %u is taken for a datagram",
                             messages[slot].msg_len, slot);
            ck_assert_uint_eq(inflight_recover(&fixture.writer), 0);
            messages[slot].msg_len = INFLIGHT_SENTINEL;
        }
    ck_assert_uint_eq(ring_published(&fixture.ring), 0);
    ring_fixture_close(&fixture);
}
END_TEST

/* One bit of what the kernel has told of a message: the datagram is there all the same, and where
 * the bit made an impossible length, with its own. */
START_TEST(no_flipped_bit_makes_a_sentinel_of_a_datagram)
{
    for (uint32_t bit = 0; bit < 64; bit++) {
        struct ring_fixture fixture;
        struct udp_pair pair;
        uint8_t payload[300];
        open_ring(&fixture, _i, 0);
        udp_pair_open(&pair, &(struct udp_pair_settings){.family = bit % 2 ? AF_INET6 : AF_INET});
        for (uint32_t i = 0; i < 2; i++) {
            ring_fixture_fill(payload, i, sizeof payload);
            udp_pair_send(&pair, payload, sizeof payload, 0);
        }
        ring_reserve(&fixture.writer, ARMED);
        struct mmsghdr *messages = inflight_arm(&fixture.writer, ARMED);
        ck_assert_int_eq(recvmmsg(pair.rx, messages, ARMED, MSG_DONTWAIT | MSG_TRUNC, NULL), 2);
        if (bit < 32)
            messages[0].msg_len ^= 1u << bit;
        else
            messages[0].msg_hdr.msg_namelen ^= 1u << (bit - 32);
        ck_assert_uint_eq(inflight_recover(&fixture.writer), 2);
        expect(&fixture, &pair, 1, 1, sizeof payload);
        if (bit >= 16)
            expect(&fixture, &pair, 0, 0, sizeof payload);
        udp_pair_close(&pair);
        ring_fixture_close(&fixture);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inflight");
    TCase *sockets = tcase_create("sockets");
    tcase_set_timeout(sockets, 60);
    tcase_add_loop_test(sockets, every_size_over_ipv4, 0, 2);
    tcase_add_loop_test(sockets, every_size_over_ipv6, 0, 2);
    tcase_add_loop_test(sockets, the_kernels_drops_are_counted_to_the_datagram, 0, 2);
    tcase_add_loop_test(sockets, nothing_there_publishes_nothing, 0, 2);
    tcase_add_loop_test(sockets, coalesced_runs_come_apart, 0, 2);
    tcase_add_loop_test(sockets, what_nobody_will_publish_is_counted_in_datagrams, 0, 2);
    tcase_add_loop_test(sockets, the_longest_run_is_complete, 0, 2);
    tcase_add_loop_test(sockets, no_damage_to_a_sentinel_makes_a_datagram, 0, 2);
    tcase_add_loop_test(sockets, no_flipped_bit_makes_a_sentinel_of_a_datagram, 0, 2);
    suite_add_tcase(suite, sockets);
    return unit_run(suite);
}
