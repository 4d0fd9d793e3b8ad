/* SPDX-License-Identifier: MIT */
/* Ring memory for unit tests, made the way the supervisor makes it. A failure here fails the test
 * that asked. */
#include "tests/lib/ring_fixture.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/inflight.h"

void ring_fixture_make(struct ring_fixture *fixture, const struct ring_fixture_settings *settings)
{
    struct channel_spec spec = {.max_datagram = settings->max_datagram,
                                .ring_size = settings->ring_size,
                                .receive_offload = settings->receive_offload,
                                .relay_count = settings->relay_count,
                                .decimate_count = settings->decimate_count};
    memset(fixture, 0, sizeof *fixture);
    channel_geometry_compute(&spec, &fixture->geometry);
    fixture->memfd = memfd_create("ring-fixture", MFD_CLOEXEC);
    ck_assert_int_ge(fixture->memfd, 0);
    ck_assert_int_eq(ftruncate(fixture->memfd, (off_t)fixture->geometry.total_size), 0);
    void *head = mmap(NULL, fixture->geometry.data_offset, PROT_READ | PROT_WRITE, MAP_SHARED,
                      fixture->memfd, 0);
    ck_assert_ptr_ne(head, MAP_FAILED);
    channel_page_init(head, &fixture->geometry, RING_FIXTURE_CHANNEL, settings->start_seq,
                      settings->start_position);
    munmap(head, fixture->geometry.data_offset);
}

void ring_fixture_attach(struct ring_fixture *fixture, enum ring_mapping_wanted mapping)
{
    const char *what;
    ck_assert_int_eq(ring_attach(&fixture->ring, fixture->memfd, &fixture->geometry, mapping), 0);
    int result = channel_page_check(fixture->ring.page, fixture->ring.descriptors,
                                    &fixture->geometry, RING_FIXTURE_CHANNEL, &what);
    ck_assert_msg(result == 0, "the ring is refused: %s", what);
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
    fd_close(&fixture->memfd);
}

void ring_fixture_write(struct ring_writer *writer, const void *payload, uint32_t length)
{
    struct ring_entry entry = {
        .length = length, .time_ns = 1000000000ull + writer->seq, .origin = 4242ull << 16 | 4};
    static const uint8_t localhost[] = {127, 0, 0, 1};
    memcpy(entry.address, localhost, sizeof localhost);
    ring_reserve(writer, 1);
    inflight_arm(writer, 1);
    entry.position = writer->position;
    entry.drops = writer->drops;
    memcpy(ring_map_at(&writer->ring->data, entry.position), payload, length);
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
