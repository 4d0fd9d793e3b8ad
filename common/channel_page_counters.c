/* SPDX-License-Identifier: MIT */
/* Reads a ring's ledger while a worker may be writing it. Called by the supervisor; must never
 * believe a value that contradicts another one. */
#include "common/channel_page_counters.h"

#include <stdatomic.h>
#include <string.h>

/* Of a page that is being scribbled over, no two looks may ever be alike. */
#define READ_TRIES 16

/* [0]: of relays, [1]: of decimated destinations. */
struct destination_sums {
    struct destination_progress of[2];
};

static bool add_places(const struct channel_page *page, uint32_t first, uint32_t end,
                       struct destination_sums *sums)
{
    for (uint32_t i = first; i < end; i++) {
        struct destination_progress progress;
        const struct destination_place *place = channel_page_place(page, i);
        uint16_t use = atomic_load_explicit(&place->use, memory_order_acquire);
        struct destination_progress *sum = &sums->of[use == DESTINATION_IS_DECIMATE];
        if (use == DESTINATION_UNUSED)
            continue;
        if (!channel_page_read_destination(page, i, &progress))
            return false;
        sum->sent += progress.sent;
        sum->dropped += progress.dropped;
        sum->repeated += progress.repeated;
    }
    return true;
}

/* A worker that takes over may be giving up places meanwhile: what was counted there must be seen
 * neither twice nor not at all. */
static bool count_destinations(const struct channel_page *page, uint64_t *value)
{
    for (int attempt = 0; attempt < READ_TRIES; attempt++) {
        struct destination_sums gone = {0}, again = {0}, all = {0};
        if (!add_places(page, CHANNEL_DESTINATIONS_MAX, CHANNEL_PLACES_MAX, &gone) ||
            !add_places(page, 0, CHANNEL_PLACES_MAX, &all) ||
            !add_places(page, CHANNEL_DESTINATIONS_MAX, CHANNEL_PLACES_MAX, &again))
            return false;
        if (memcmp(&gone, &again, sizeof gone) != 0)
            continue;
        value[COUNTER_relayed] += all.of[0].sent;
        value[COUNTER_relay_dropped] += all.of[0].dropped;
        value[COUNTER_decimated] += all.of[1].sent;
        value[COUNTER_decimate_lost] += all.of[1].dropped;
        value[COUNTER_relay_repeated] += all.of[0].repeated + all.of[1].repeated;
        return true;
    }
    return false;
}

bool channel_page_counters(const struct channel_page *page, const struct channel_spec *spec,
                           const struct channel_geometry *geometry, struct counters *ret,
                           uint64_t *ret_pending)
{
    struct relay_progress relay;
    struct commit_progress commit;
    struct decimate_progress decimate;
    uint64_t *value = ret->value;

    memset(ret, 0, sizeof *ret);
    *ret_pending = 0;
    if (!channel_page_read_relay(page, &relay) || !channel_page_read_commit(page, &commit) ||
        !channel_page_read_decimate(page, &decimate))
        return false;
    /* Read last: it is never behind what was read before. */
    uint64_t published = atomic_load_explicit(&page->public.published, memory_order_acquire);
    uint64_t reserved = atomic_load_explicit(&page->public.reserved_seq, memory_order_acquire);
    if (!channel_page_start_is_sound(page) || published < page->public.start_seq ||
        published > reserved || commit.next_seq > published ||
        channel_page_is_uneven(page, &commit))
        return false;
    /* No check word vouches for `published`, but one does for the relay, which follows at once:
     * what is further ahead was never received, and must not use up the sequence numbers. */
    if (relay.next_seq > published || published - relay.next_seq > geometry->descriptor_count)
        return false;

    value[COUNTER_received] = published - page->public.start_seq;
    value[COUNTER_received_bytes] = channel_page_bytes(page, geometry, published);
    value[COUNTER_truncated] = relay.truncated;
    value[COUNTER_kernel_dropped] = relay.kernel_dropped;
    value[COUNTER_decimate_lost] = decimate.lost;
    value[COUNTER_quarantined] =
        atomic_load_explicit(&page->private.quarantined, memory_order_relaxed);
    value[COUNTER_map_fallbacks] =
        atomic_load_explicit(&page->private.mapping_fell_back, memory_order_relaxed) != 0;
    if (value[COUNTER_quarantined] > value[COUNTER_received])
        value[COUNTER_quarantined] = 0; /* scribbled over: no check word vouches for it */
    value[COUNTER_recorded] = commit.recorded;
    value[COUNTER_record_lost] = commit.record_lost;
    value[COUNTER_unrecorded] =
        commit.next_seq - page->public.start_seq - commit.recorded - commit.record_lost;
    if (spec->record.enabled)
        *ret_pending = published - commit.next_seq;
    else
        value[COUNTER_unrecorded] += published - commit.next_seq;
    return count_destinations(page, value);
}
