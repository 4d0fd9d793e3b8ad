/* SPDX-License-Identifier: MIT */
/* What takes longer than the event loop may stand still is done in slices: at once while nobody
 * else has anything to do, and all such work together in half of the time while others are busy
 * without a pause, as clients that ask and ask are. Must never depend on the loop's being idle,
 * which it need not be for hours. */
#include "supervisor/system/slices.h"

#include "common/monotonic.h"

#define LEAST_PAUSE_NS (200 * NS_PER_US) /* others' turns take that long, too */

static unsigned under_way; /* they share one half */

bool slices_under_way(const struct slices *slices)
{
    return slices->idle;
}

void slices_end(struct slices *slices)
{
    if (!slices->idle)
        return;
    under_way--;
    slices->idle = sd_event_source_disable_unref(slices->idle);
    timer_disarm(&slices->due);
}

static int on_due(sd_event_source *source, uint64_t time_us, void *userdata);

/* The loop's clock stands where it was when the slice began. */
static int pause_for(struct slices *slices, uint64_t slice_ns)
{
    if (slice_ns < LEAST_PAUSE_NS)
        slice_ns = LEAST_PAUSE_NS;
    return timer_arm(&slices->due, slices->event, slice_ns * (1 + under_way), on_due, slices);
}

static int take_one(struct slices *slices)
{
    monotonic began = monotonic_now();
    if (!slices->take(slices->data))
        return 0;
    pause_for(slices, monotonic_since(monotonic_now(), began));
    return 0;
}

static int on_due(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    return take_one(userdata);
}

static int on_idle(sd_event_source *source, void *userdata)
{
    (void)source;
    return take_one(userdata);
}

int slices_begin(struct slices *slices, sd_event *event, slices_take *take, void *data)
{
    slices_end(slices);
    *slices = (struct slices){.event = event, .take = take, .data = data};
    int error = sd_event_add_defer(event, &slices->idle, on_idle, slices);
    if (error < 0)
        return error;
    under_way++;
    error = sd_event_source_set_priority(slices->idle, SD_EVENT_PRIORITY_IDLE);
    if (error >= 0)
        error = sd_event_source_set_enabled(slices->idle, SD_EVENT_ON);
    if (error >= 0)
        error = pause_for(slices, 0);
    if (error < 0)
        slices_end(slices);
    return error < 0 ? error : 0;
}
