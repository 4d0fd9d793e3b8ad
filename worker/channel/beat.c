/* SPDX-License-Identifier: MIT */
/* Every thread beats for itself while it works, the control thread for those who sleep. Called
 * several times per batch: a look at the clock and stores into the caller's own cache line, nothing
 * else. Must never vouch for a thread whose wake-up was lost. */
#include "worker/channel/beat.h"

#include <unistd.h>

#include "common/monotonic.h"
#include "worker/channel/channel_state.h"

void beat_reset(struct channel_page *page)
{
    for (int i = 0; i < CHANNEL_THREAD_COUNT; i++) {
        atomic_store(&page->private.beats[i].state, THREAD_ABSENT);
        atomic_store(&page->private.beats[i].beat_ns, 0);
        atomic_store(&page->private.beats[i].work_first, 0);
        atomic_store(&page->private.beats[i].work_end, 0);
    }
}

void beat_begin(struct channel_state *channel, enum channel_thread thread)
{
    atomic_store(&channel->ring.page->private.beats[thread].thread_id, (uint32_t)gettid());
}

void beat_end(struct channel_state *channel, enum channel_thread thread)
{
    atomic_store(&channel->ring.page->private.beats[thread].state, THREAD_ABSENT);
}

static void beat(struct channel_state *channel, enum channel_thread thread, enum thread_state state)
{
    struct thread_beat *own = &channel->ring.page->private.beats[thread];
    atomic_store_explicit(&own->beat_ns, monotonic_now().ns, memory_order_relaxed);
    atomic_store_explicit(&own->state, state, memory_order_release);
}

void beat_busy(struct channel_state *channel, enum channel_thread thread)
{
    beat(channel, thread, THREAD_BUSY);
}

void beat_parked(struct channel_state *channel, enum channel_thread thread)
{
    beat(channel, thread, THREAD_PARKED);
}

void beat_disk(struct channel_state *channel, enum channel_thread thread)
{
    beat(channel, thread, THREAD_DISK);
}

void beat_work(struct channel_state *channel, enum channel_thread thread, uint64_t first,
               uint64_t end)
{
    struct thread_beat *own = &channel->ring.page->private.beats[thread];
    atomic_store_explicit(&own->work_first, first, memory_order_relaxed);
    atomic_store_explicit(&own->work_end, end, memory_order_release);
}

/* A thread that waits in the kernel with nothing to do doesn't wake up just to beat. A reader that
 * is parked although what it waits for is there is not vouched for: if its wake-up was lost, the
 * supervisor shall see it. */
void beat_for_parked(struct channel_state *channel)
{
    struct channel_page *page = channel->ring.page;
    const struct wakeup *wakeups[CHANNEL_THREAD_COUNT] = {
        [CHANNEL_THREAD_RECORDER] = &channel->recorder_wakeup,
        [CHANNEL_THREAD_DECIMATOR] = &channel->decimator_wakeup,
    };
    uint64_t relayed = channel_state_relay_cursor(channel);
    monotonic now = monotonic_now();
    for (int thread = 0; thread < CHANNEL_THREAD_COUNT; thread++) {
        struct thread_beat *parked = &page->private.beats[thread];
        if (atomic_load_explicit(&parked->state, memory_order_acquire) != THREAD_PARKED)
            continue;
        if (wakeups[thread] && atomic_load(&wakeups[thread]->wake_at) <= relayed)
            continue;
        atomic_store_explicit(&parked->beat_ns, now.ns, memory_order_relaxed);
    }
}
