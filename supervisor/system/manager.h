/* SPDX-License-Identifier: MIT */
/* What is said to the service manager (sd_notify(3)), without ever waiting for it. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_MANAGER_H
#define HOLDFAST_SUPERVISOR_SYSTEM_MANAGER_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "supervisor/system/timer.h"

/* Is there one that listens? */
bool manager_is_there(void);

/* What is to be said to it needs no further descriptor from here on. Done at the very beginning,
 * and again by the first message when that failed. 0 or -errno. */
int manager_open(void);

/* One message, with a descriptor or -1. Unlike sd_notify(3) this never blocks: a manager that is
 * busy is told later. 0; -EAGAIN: it could not be told now, whether for its own sake or for want of
 * memory or descriptors: try again; -ENOTCONN: there is no service manager; other -errno. */
int manager_notify(const char *text, int fd);

/* Signs of life for its watchdog. All zero: none are given. */
struct watchdog {
    sd_event *event;
    struct timer timer;
    uint64_t interval_ns; /* between two of them: half of what the manager allows */
};

/* Give them from the event loop, so that a loop that stands still gives none; does nothing unless
 * the manager asks for them ($WATCHDOG_USEC, $WATCHDOG_PID: sd_watchdog_enabled(3)). 0 or -errno.
 */
int watchdog_start(struct watchdog *watchdog, sd_event *event);
void watchdog_stop(struct watchdog *watchdog);

#endif
