/* SPDX-License-Identifier: MIT */
/* How much room a folder's file system has. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_DISK_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_DISK_H

#include <jansson.h>

/* {"free_bytes", "size_bytes", "reason"}: what a user without privileges may still fill; or both
 * null and why the folder can't be looked at. Waits no longer than a second, whatever the disk
 * does. The caller owns it. */
json_t *ctl_disk_look(const char *folder);

#endif
