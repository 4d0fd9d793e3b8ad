/* SPDX-License-Identifier: MIT */
/* A timer of the event loop that fires once and is armed again and again: backoff, deadlines,
 * retries. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_TIMER_H
#define HOLDFAST_SUPERVISOR_SYSTEM_TIMER_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/* All zero: never armed. */
struct timer {
    sd_event_source *source;
    sd_event_time_handler_t handler;
    void *data;
};

/* Call handler once after delay_ns, instead of whatever it was armed for. 0 or -errno. */
int timer_arm(struct timer *timer, sd_event *event, uint64_t delay_ns,
              sd_event_time_handler_t handler, void *data);
bool timer_is_armed(const struct timer *timer);
void timer_disarm(struct timer *timer);

#endif
