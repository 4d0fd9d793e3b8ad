/* SPDX-License-Identifier: MIT */
/* What may go when a channel's limits, or the file system's, are reached. */
#ifndef HOLDFAST_WORKER_ARCHIVE_RETENTION_H
#define HOLDFAST_WORKER_ARCHIVE_RETENTION_H

#include "common/message.h"

/* Apply these limits to this channel; with keep_free also to all channels that have it. Has no
 * answer: what was removed, and what could not be, is logged. */
void retention_apply(const char *log_dir, const struct message_expire *limits);

#endif
