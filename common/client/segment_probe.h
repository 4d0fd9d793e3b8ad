/* SPDX-License-Identifier: MIT */
/* Looks for the beginning of a block somewhere in a segment, without reading what lies before. */
#ifndef HOLDFAST_COMMON_CLIENT_SEGMENT_PROBE_H
#define HOLDFAST_COMMON_CLIENT_SEGMENT_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_format.h"

/* Holds the longest block behind the piece that is searched for a marker. */
#define SEGMENT_PROBE_SIZE ((size_t)256 * 1024)

struct segment_probe {
    int fd;
    uint64_t end;        /* where the last sealed block ends at the latest */
    const uint8_t *sync; /* the file's marker */
    uint8_t *bytes;      /* SEGMENT_PROBE_SIZE of them, for the probe's use */
};

struct segment_probed {
    uint64_t block;
    uint64_t seq, time_ns; /* of its first record */
};

/* The first sealed block that begins behind a marker in [from, limit), and is one: 1, or 0 when
 * none does, or -errno. */
int segment_probe_find(const struct segment_probe *probe, uint64_t from, uint64_t limit,
                       struct segment_probed *ret);
/* Is the first record of the block there sound? Its header is not looked at. */
bool segment_probe_first(const struct segment_probe *probe, uint64_t block, uint64_t end,
                         struct segment_probed *ret);

#endif
