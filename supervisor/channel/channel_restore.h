/* SPDX-License-Identifier: MIT */
/* What an earlier supervisor held goes on. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RESTORE_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RESTORE_H

#include "supervisor/channel/channels.h"

/* Set for a program that is executed by an upgrade: the names of channels that stay stopped, each
 * followed by ':'. */
#define CHANNEL_RESTORE_VARIABLE "HOLDFAST_UPGRADE"

/* The control socket's name among what an upgrade hands on: no place of a channel is called so, and
 * a program that doesn't know it closes it. */
#define CHANNEL_RESTORE_CONTROL "control-socket"
/* The same of the readers' socket. */
#define CHANNEL_RESTORE_READ "read-socket"

/* What is not a channel's; the caller's. -1 where it was not handed on. */
struct channel_restored {
    int control, read;
};

/* Channels are made and not started: give them what an earlier supervisor held
 * (sd_listen_fds_with_names(3)). Was there anything? */
bool channel_restore_all(struct channels *channels, struct channel_restored *ret_others);

#endif
