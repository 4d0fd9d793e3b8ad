/* SPDX-License-Identifier: MIT */
/* A ring as the supervisor makes it, for tests: geometry, fresh page, attach, and datagrams
 * written by hand. */
#ifndef HOLDFAST_TESTS_LIB_RING_FIXTURE_H
#define HOLDFAST_TESTS_LIB_RING_FIXTURE_H

#include "common/ring.h"

struct ring_fixture {
    struct channel_memory memory;
    struct channel_geometry geometry;
    struct ring ring;
    struct ring_writer writer;
};

struct ring_fixture_settings {
    uint64_t ring_size;
    uint32_t max_datagram;
    uint32_t receive_offload;
    uint32_t relay_count;
    uint32_t decimate_count;
    enum ring_mapping_wanted mapping;
    uint64_t start_seq;
    uint64_t start_position;
};

#define RING_FIXTURE_CHANNEL "engine"

/* The destination "to-INDEX" gets the place `index`. */
void ring_fixture_place(struct channel_page *page, bool is_relay, uint32_t index);

/* The memory with a fresh page; nothing attached. */
void ring_fixture_make(struct ring_fixture *fixture, const struct ring_fixture_settings *settings);

/* Attach, check and continue, as a worker does. */
void ring_fixture_attach(struct ring_fixture *fixture, enum ring_mapping_wanted mapping);

/* Both. */
void ring_fixture_open(struct ring_fixture *fixture, const struct ring_fixture_settings *settings);

void ring_fixture_close(struct ring_fixture *fixture);

/* Publish one datagram with this payload, as if it had just come in from 127.0.0.1:4242. */
void ring_fixture_write(struct ring_writer *writer, const void *payload, uint32_t length);

/* Contents that can be told apart: byte `index` of the datagram with this number. */
static inline uint8_t ring_fixture_byte(uint64_t number, uint32_t index)
{
    uint64_t mix = (number + 1) * 0x9e3779b97f4a7c15ull + (index / 8) * 0xff51afd7ed558ccdull;
    mix ^= mix >> 29;
    return (uint8_t)(mix >> (index % 8 * 8));
}

void ring_fixture_fill(void *to, uint64_t number, uint32_t length);
bool ring_fixture_matches(const void *data, uint64_t number, uint32_t length);

/* A small repeatable generator (splitmix64). */
uint64_t ring_fixture_random(uint64_t *state);

#endif
