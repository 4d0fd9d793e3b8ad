/* SPDX-License-Identifier: MIT */
/* A fresh ring, made the way the supervisor makes it, for programs that measure it without a
 * supervisor. */
#ifndef HOLDFAST_TESTS_BENCH_RING_MEMORY_H
#define HOLDFAST_TESTS_BENCH_RING_MEMORY_H

#include "common/ring.h"

#define RING_MEMORY_CHANNEL "bench"

/* Memory of this spec's geometry with a fresh page. Ends the program on failure. */
void ring_memory_make(const struct channel_spec *spec, struct channel_geometry *ret_geometry,
                      struct channel_memory *ret_memory);
/* The same, attached and ready to be written. */
void ring_memory_open(const struct channel_spec *spec, struct ring *ret_ring,
                      struct ring_writer *ret_writer);

#endif
