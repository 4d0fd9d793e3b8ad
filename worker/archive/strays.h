/* SPDX-License-Identifier: MIT */
/* Folders in log_dir that belong to no channel any more: it was renamed, removed, or doesn't
 * record. */
#ifndef HOLDFAST_WORKER_ARCHIVE_STRAYS_H
#define HOLDFAST_WORKER_ARCHIVE_STRAYS_H

/* A channel that records. All are named, and then the sweep forgets them. */
void strays_note_channel(const char *channel);

/* Finish what is unfinished in every other folder, keep it, and say so. What a process still has
 * open waits for the next sweep. */
void strays_sweep(const char *log_dir);

#endif
