/* SPDX-License-Identifier: MIT */
/* Work of this process that takes long, done a short slice at a time. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_SLICES_H
#define HOLDFAST_SUPERVISOR_SYSTEM_SLICES_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "supervisor/system/timer.h"

/* About a millisecond's work, or less. false: nothing is left, and what this is part of may be
 * gone.
 */
typedef bool slices_take(void *data);

/* All zero: nothing is under way. */
struct slices {
    sd_event *event;
    sd_event_source *idle; /* a slice whenever nobody else has anything to do ... */
    struct timer due;      /* ... and when it is time for one, whoever has */
    slices_take *take;
    void *data;
};

/* Call take(data) again and again until it returns false. 0 or -errno. */
int slices_begin(struct slices *slices, sd_event *event, slices_take *take, void *data);
bool slices_under_way(const struct slices *slices);
/* Not any more, from take() too. Accepts that nothing is under way. */
void slices_end(struct slices *slices);

#endif
