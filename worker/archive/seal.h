/* SPDX-License-Identifier: MIT */
/* A segment that nobody writes to any more becomes a sealed file. */
#ifndef HOLDFAST_WORKER_ARCHIVE_SEAL_H
#define HOLDFAST_WORKER_ARCHIVE_SEAL_H

#include "common/message.h"

/* Fills *ret completely; ret->error is 0 or an errno, ret->reason a text that says what to do.
 * After an error nothing is lost, and it may be asked again. */
void seal_run(const char *log_dir, const struct message_seal *request, struct message_sealed *ret);

#endif
