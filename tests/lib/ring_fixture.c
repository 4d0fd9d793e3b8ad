/* SPDX-License-Identifier: MIT */
/* Ring memory for unit tests, made the way the supervisor makes it. A failure here fails the test
 * that asked. */
#include "tests/lib/ring_fixture.h"

#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/channel_page_check.h"
#include "common/fd.h"
#include "common/inflight.h"

void ring_fixture_place(struct channel_page *page, bool is_relay, uint32_t index)
{
    char name[CHANNEL_NAME_SIZE];
    snprintf(name, sizeof name, "to-%u", index);
    ck_assert_int_eq(channel_page_place_destination(
                         page, is_relay ? DESTINATION_IS_RELAY : DESTINATION_IS_DECIMATE, name, 0),
                     (int)index);
}

void ring_fixture_make(struct ring_fixture *fixture, const struct ring_fixture_settings *settings)
{
    struct channel_spec spec = {.max_datagram = settings->max_datagram,
                                .ring_size = settings->ring_size,
                                .receive_offload = settings->receive_offload,
                                .relay_count = settings->relay_count,
                                .decimate_count = settings->decimate_count};
    memset(fixture, 0, sizeof *fixture);
    channel_geometry_compute(&spec, &fixture->geometry);
    const struct channel_page_start start = {.channel = RING_FIXTURE_CHANNEL,
                                             .pair = 4242,
                                             .seq = settings->start_seq,
                                             .position = settings->start_position};
    const char *step;
    int result = channel_memory_make(&fixture->geometry, &start, &fixture->memory, &step);
    ck_assert_msg(result == 0, "%s: %s", step, strerror(-result));
    struct channel_page *page;
    ck_assert_int_eq(channel_memory_map(&fixture->memory, &fixture->geometry, &page), 0);
    for (uint32_t i = 0; i < settings->relay_count + settings->decimate_count; i++)
        ring_fixture_place(page, i < settings->relay_count, i);
    channel_memory_unmap(&page, &fixture->geometry);
}

void ring_fixture_attach(struct ring_fixture *fixture, enum ring_mapping_wanted mapping)
{
    const char *what;
    ck_assert_int_eq(ring_attach(&fixture->ring, &fixture->memory, &fixture->geometry, mapping), 0);
    int result = channel_page_check(fixture->ring.page, fixture->ring.descriptors,
                                    &fixture->geometry, RING_FIXTURE_CHANNEL, &what);
    ck_assert_msg(result == 0, "the ring is refused: %s", what);
    ck_assert_int_eq(ring_settle(&fixture->ring, fixture->memory.ring), 0);
    ring_writer_open(&fixture->writer, &fixture->ring);
}

void ring_fixture_open(struct ring_fixture *fixture, const struct ring_fixture_settings *settings)
{
    ring_fixture_make(fixture, settings);
    ring_fixture_attach(fixture, settings->mapping);
}

void ring_fixture_close(struct ring_fixture *fixture)
{
    ring_detach(&fixture->ring);
    fd_close(&fixture->memory.ring);
    fd_close(&fixture->memory.private_part);
}

void ring_fixture_write(struct ring_writer *writer, const void *payload, uint32_t length)
{
    struct ring_entry entry = {
        .length = length, .time_ns = 1000000000ull + writer->seq, .origin = 4242ull << 16 | 4};
    static const uint8_t localhost[] = {127, 0, 0, 1};
    memcpy(entry.address, localhost, sizeof localhost);
    ring_reserve(writer, 1);
    struct mmsghdr *message = inflight_arm(writer, 1);
    entry.position = writer->position;
    entry.drops = writer->drops;
    memcpy(ring_map_at(&writer->ring->data, entry.position), payload, length);
    message->msg_hdr.msg_namelen = sizeof(struct sockaddr_in);
    message->msg_hdr.msg_controllen = 0;
    message->msg_len = length;
    ring_append(writer, 0, &entry);
    ring_publish(writer, 1, entry.position + length);
}

void ring_fixture_fill(void *to, uint64_t number, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        ((uint8_t *)to)[i] = ring_fixture_byte(number, i);
}

bool ring_fixture_matches(const void *data, uint64_t number, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        if (((const uint8_t *)data)[i] != ring_fixture_byte(number, i))
            return false;
    return true;
}

uint64_t ring_fixture_random(uint64_t *state)
{
    uint64_t mix = *state += 0x9e3779b97f4a7c15ull;
    mix = (mix ^ mix >> 30) * 0xbf58476d1ce4e5b9ull;
    mix = (mix ^ mix >> 27) * 0x94d049bb133111ebull;
    return mix ^ mix >> 31;
}
