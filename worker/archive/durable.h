/* SPDX-License-Identifier: MIT */
/* Segments that are in use, and that nobody makes durable just now. */
#ifndef HOLDFAST_WORKER_ARCHIVE_DURABLE_H
#define HOLDFAST_WORKER_ARCHIVE_DURABLE_H

#include "common/message.h"

/* Returns when they are on the disk, or with an error in *ret. */
void durable_make(const char *log_dir, const struct message_sync *request,
                  struct message_synced *ret);

#endif
