/* SPDX-License-Identifier: MIT */
/* What the service manager is told (sd_notify(3)): READY, STATUS, STOPPING. */
#ifndef HOLDFAST_SUPERVISOR_STATUS_LINE_H
#define HOLDFAST_SUPERVISOR_STATUS_LINE_H

#include "supervisor/supervisor.h"

/* One message, with a descriptor or -1. Unlike sd_notify(3) this never blocks: a manager that is
 * busy is told later. 0; -EAGAIN: try again; -ENOTCONN: there is no service manager; other -errno.
 */
int notify_send(const char *text, int fd);

/* READY=1 as soon as every channel runs or has said why not; STATUS= soon, when its text has
 * changed. */
void notify_changed(struct supervisor *supervisor);
void notify_stopping(struct supervisor *supervisor);
void notify_stop(struct supervisor *supervisor);

#endif
