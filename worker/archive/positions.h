/* SPDX-License-Identifier: MIT */
/* Where readers go on: <log_dir>/.positions/CHANNEL/NAME (position_file.h). */
#ifndef HOLDFAST_WORKER_ARCHIVE_POSITIONS_H
#define HOLDFAST_WORKER_ARCHIVE_POSITIONS_H

#include "common/message.h"

/* Keep it, or remove it, for its owner; returns when that is on the disk, or with an error and its
 * reason in *ret. What was done already may be asked for again. */
void positions_keep(const char *log_dir, const struct message_position_save *request,
                    struct message_position_saved *ret);

#endif
