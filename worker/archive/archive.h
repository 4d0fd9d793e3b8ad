/* SPDX-License-Identifier: MIT */
/* The archive process: the only one that touches log_dir. archive.c serves messages, the other
 * files of this folder do the work: segments (made, begun, sealed), recovery (what a crash has
 * left), retention (what is too old) and, below them all, folder and
 * dir_lock (log_dir is ours alone). */
#ifndef HOLDFAST_WORKER_ARCHIVE_ARCHIVE_H
#define HOLDFAST_WORKER_ARCHIVE_ARCHIVE_H

#include <stdint.h>

#include "common/message.h"

/* Serve the supervisor on fd 3 until it closes or says STOP. lock: what came with ASSIGN, or -1; it
 * is the archive's from now on. Returns the exit status. */
int archive_run(const struct message_assign *assign, uint64_t generation, int lock);

#endif
