/* SPDX-License-Identifier: MIT */
/* The hold outlives the supervisor too: the service manager keeps a duplicate of every descriptor
 * (sd_notify(3), FDSTORE=1) under "<channel>.<place>", and gives them back at the next start
 * (sd_listen_fds_with_names(3)). */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RESTORE_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RESTORE_H

#include "supervisor/supervisor.h"

/* Channels are made and not started: give them what an earlier supervisor held. */
void handover_restore(struct supervisor *supervisor);

/* A channel's hold may have changed: bring the manager's store up to date. Does nothing without a
 * manager. */
void handover_changed(struct channel *channel);

void handover_free(struct supervisor *supervisor);

#endif
