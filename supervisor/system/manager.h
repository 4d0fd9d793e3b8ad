/* SPDX-License-Identifier: MIT */
/* What is said to the service manager (sd_notify(3)), without ever waiting for it. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_MANAGER_H
#define HOLDFAST_SUPERVISOR_SYSTEM_MANAGER_H

#include <stdbool.h>
#include <systemd/sd-event.h>

/* Is there one that listens? */
bool manager_is_there(void);

/* One message, with a descriptor or -1. Unlike sd_notify(3) this never blocks: a manager that is
 * busy is told later. 0; -EAGAIN: try again; -ENOTCONN: there is no service manager; other -errno.
 */
int manager_notify(const char *text, int fd);

/* Signs of life for its watchdog, from the event loop; does nothing unless the manager asks for
 * them. 0 or -errno. */
int manager_serve_watchdog(sd_event *event);

#endif
