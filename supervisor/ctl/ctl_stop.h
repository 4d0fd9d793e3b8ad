/* SPDX-License-Identifier: MIT */
/* Ctrl-C and its relatives as a wish to end, for verbs that have something to put in order. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_STOP_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_STOP_H

#include <poll.h>
#include <stdbool.h>

/* From here on SIGINT, SIGTERM and SIGHUP end nothing by themselves; they interrupt what waits. */
void ctl_stop_begin(void);
bool ctl_stop_is_asked(void);

/* poll(2), which no such signal can slip past; timeout_ms -1 is for ever. The number of
 * descriptors, or 0 also when it was interrupted. */
int ctl_stop_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

#endif
