/* SPDX-License-Identifier: MIT */
/* What an earlier supervisor held goes on. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RESTORE_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RESTORE_H

#include "supervisor/channel/channels.h"

/* Set for a program that is executed by an upgrade: the names of channels that stay stopped, each
 * followed by ':'. */
#define CHANNEL_RESTORE_VARIABLE "HOLDFAST_UPGRADE"

/* Channels are made and not started: give them what an earlier supervisor held
 * (sd_listen_fds_with_names(3)). Was there anything? */
bool channel_restore_all(struct channels *channels);

#endif
