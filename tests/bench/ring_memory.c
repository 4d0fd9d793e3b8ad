/* SPDX-License-Identifier: MIT */
/* Ring memory for bench programs. Called before the clock starts; never while something is
 * measured. */
#include "tests/bench/ring_memory.h"

#include "common/fd.h"
#include "tests/bench/support.h"

void ring_memory_make(const struct channel_spec *spec, struct channel_geometry *ret_geometry,
                      struct channel_memory *ret_memory)
{
    const struct channel_page_start start = {.channel = spec->name};
    const char *step;
    channel_geometry_compute(spec, ret_geometry);
    support_check(channel_memory_make(ret_geometry, &start, ret_memory, &step), "ring memory");
}

void ring_memory_open(const struct channel_spec *spec, struct ring *ret_ring,
                      struct ring_writer *ret_writer)
{
    struct channel_geometry geometry;
    struct channel_memory memory;
    ring_memory_make(spec, &geometry, &memory);
    support_check(
        ring_attach(ret_ring, &memory, &geometry, (enum ring_mapping_wanted)spec->mapping),
        "ring_attach");
    support_check(ring_settle(ret_ring, memory.ring), "ring_settle");
    fd_close(&memory.ring);
    fd_close(&memory.private_part);
    ring_writer_open(ret_writer, ret_ring);
}
