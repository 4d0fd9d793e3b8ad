/* SPDX-License-Identifier: MIT */
/* Timers of the event loop. Used by whoever waits for a time to pass. Must never call a handler
 * other than the one it was armed with last. */
#include "supervisor/system/timer.h"

#include "common/monotonic.h"

/* The default of sd-event, 250 ms, is for the idle; a takeover is not. */
#define ACCURACY_US 100

int timer_arm(struct timer *timer, sd_event *event, uint64_t delay_ns,
              sd_event_time_handler_t handler, void *data)
{
    uint64_t delay_us = delay_ns / NS_PER_US;
    if (timer->source && (timer->handler != handler || timer->data != data))
        timer_disarm(timer); /* a source can't change its handler */
    if (!timer->source) {
        timer->handler = handler;
        timer->data = data;
        return sd_event_add_time_relative(event, &timer->source, CLOCK_MONOTONIC, delay_us,
                                          ACCURACY_US, handler, data);
    }
    int error = sd_event_source_set_time_relative(timer->source, delay_us);
    return error < 0 ? error : sd_event_source_set_enabled(timer->source, SD_EVENT_ONESHOT);
}

bool timer_is_armed(const struct timer *timer)
{
    int enabled = SD_EVENT_OFF;
    if (timer->source)
        sd_event_source_get_enabled(timer->source, &enabled);
    return enabled != SD_EVENT_OFF;
}

void timer_disarm(struct timer *timer)
{
    timer->source = sd_event_source_disable_unref(timer->source);
}
