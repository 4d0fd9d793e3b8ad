/* SPDX-License-Identifier: MIT */
/* Folders in log_dir that belong to no channel any more: it was renamed, removed, or doesn't
 * record. */
#ifndef HOLDFAST_WORKER_ARCHIVE_STRAYS_H
#define HOLDFAST_WORKER_ARCHIVE_STRAYS_H

#include <stdbool.h>

/* A channel that records. All are to be named before a sweep. */
void strays_note_channel(const char *channel);
/* Is there one at all? */
bool strays_knows_channels(void);
void strays_forget_channels(void);

/* Finish what is unfinished in every other folder, keep it, and say so. What a process still has
 * open waits for the next sweep. In a process of its own: it may take long. */
void strays_sweep(const char *log_dir);
/* Is there anything to finish? */
bool strays_any(const char *log_dir);

#endif
