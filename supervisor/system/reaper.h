/* SPDX-License-Identifier: MIT */
/* Who waits for which child, and nobody's children. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_REAPER_H
#define HOLDFAST_SUPERVISOR_SYSTEM_REAPER_H

#include <sys/types.h>
#include <systemd/sd-event.h>

/* As sd_event_add_child(3) for its end; it is known as somebody's from now on. 0 or -errno. */
int reaper_watch(sd_event *event, sd_event_source **ret, pid_t pid,
                 sd_event_child_handler_t handler, void *data);
/* Nobody's any more, whether it still runs or not. From the handler, too. Accepts that there is
 * none. */
void reaper_unwatch(sd_event_source **source);

/* Wait for those that have ended and are nobody's; whose end the event loop has missed is told of
 * again. Called now and then. */
void reaper_look(void);

#endif
