/* SPDX-License-Identifier: MIT */
/* How far something long has come, on a terminal. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_PROGRESS_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/monotonic.h"

struct ctl_progress {
    bool on;    /* standard error is a terminal */
    bool shown; /* a line is there */
    monotonic begun, next;
};

void ctl_progress_begin(struct ctl_progress *progress);
/* done of total, 0 for not known. Cheap; draws after a second, and then five times a second. */
void ctl_progress_tell(struct ctl_progress *progress, uint64_t done, uint64_t total);
/* Remove the line, so that something else can be written. */
void ctl_progress_clear(struct ctl_progress *progress);

#endif
