/* SPDX-License-Identifier: MIT */
/* Halves a segment until a few blocks are left: some twelve looks at 64 KiB in 256 MiB. Called by
 * the walk through a segment. Must never return a place that isn't a block's beginning, nor one
 * behind the record that is searched for, as long as keys never fall. */
#include "common/client/segment_search.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "common/client/segment_probe.h"

/* Where it is known what is there, in the order of the file. */
struct known {
    uint64_t offset;
    uint64_t key;
};

struct search {
    struct segment_probe probe;
    enum segment_key key;
    uint64_t wanted;
    struct segment_place low; /* the wanted one is not before it */
    uint64_t high;            /* and the block that has it begins before this */
    struct known known[64];   /* one for each halving */
    size_t known_count;
};

static uint64_t key_of(const struct search *search, const struct segment_probed *probed)
{
    return search->key == SEGMENT_BY_SEQ ? probed->seq : probed->time_ns;
}

/* Is the wanted record in this block, or behind it? */
static bool is_at_or_behind(const struct search *search, const struct segment_probed *probed)
{
    uint64_t key = key_of(search, probed);
    return search->key == SEGMENT_BY_SEQ ? key <= search->wanted : key < search->wanted;
}

static void take(struct search *search, const struct segment_probed *probed)
{
    if (search->known_count < sizeof search->known / sizeof *search->known)
        search->known[search->known_count++] =
            (struct known){.offset = probed->block, .key = key_of(search, probed)};
    if (is_at_or_behind(search, probed))
        search->low = (struct segment_place){.block = probed->block, .due = probed->seq};
}

/* Do the keys that were seen never fall? */
static bool is_in_order(const struct search *search)
{
    for (size_t i = 0; i < search->known_count; i++)
        for (size_t j = 0; j < search->known_count; j++)
            if (search->known[i].offset < search->known[j].offset &&
                search->known[i].key > search->known[j].key)
                return false;
    return true;
}

static int halve(struct search *search)
{
    while (search->high > search->low.block &&
           search->high - search->low.block > 2 * (uint64_t)AVRO_LOG_BLOCK_MAX) {
        uint64_t middle = search->low.block + (search->high - search->low.block) / 2;
        struct segment_probed probed;
        int result = segment_probe_find(&search->probe, middle, search->high, &probed);
        if (result < 0)
            return result;
        if (result > 0)
            take(search, &probed);
        if (result == 0 || !is_at_or_behind(search, &probed))
            search->high = middle;
    }
    return 0;
}

int segment_search(const struct segment_range *range, enum segment_key key, uint64_t wanted,
                   struct segment_place *ret)
{
    struct search search = {
        .probe = {.fd = range->fd, .end = range->sealed_end, .sync = range->sync},
        .key = key,
        .wanted = wanted,
        .low = {.block = range->first_block},
        .high = range->sealed_end};
    struct segment_probed probed;
    int result = 0;

    *ret = (struct segment_place){.block = range->first_block};
    search.probe.bytes = malloc(SEGMENT_PROBE_SIZE);
    if (!search.probe.bytes)
        return -ENOMEM;
    if (segment_probe_first(&search.probe, range->first_block, search.high, &probed))
        search.known[search.known_count++] =
            (struct known){.offset = probed.block, .key = key_of(&search, &probed)};
    if (range->open_block < range->end &&
        segment_probe_first(&search.probe, range->open_block, range->end, &probed))
        take(&search, &probed);
    result = halve(&search);
    free(search.probe.bytes);
    if (result == 0 && is_in_order(&search))
        *ret = search.low;
    return result;
}
