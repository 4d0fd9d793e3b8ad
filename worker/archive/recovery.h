/* SPDX-License-Identifier: MIT */
/* Open segments that nobody writes to any more become sealed ones (RECOVERY in holdfast-log.5). */
#ifndef HOLDFAST_WORKER_ARCHIVE_RECOVERY_H
#define HOLDFAST_WORKER_ARCHIVE_RECOVERY_H

#include "common/message.h"

/* All of a channel's folder. Fills *ret completely; ret->error is 0 or an errno, ret->reason a text
 * that says what to do. */
void recovery_run(const char *log_dir, const struct message_recover *request,
                  struct message_recovered *ret);

#endif
