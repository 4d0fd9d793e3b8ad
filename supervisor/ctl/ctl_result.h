/* SPDX-License-Identifier: MIT */
/* The file that a verb writes: where it lies. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_RESULT_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_RESULT_H

#include <stdbool.h>

/* What stands behind a path's last slash. */
const char *ctl_result_base_name(const char *path);

/* Would it lie in a channel's folder, which bears its name? There the archive takes every file
 * whose name begins with it for a segment: it would find each record there twice, and delete the
 * file when space is short. */
bool ctl_result_is_in_recording(const char *path);

/* Its name is only as good as the folder's state on the disk. 0 or -errno. */
int ctl_result_sync_folder(const char *path);

/* The finished file, from the name that it had meanwhile to its own: over one that is there with
 * `force` only. 0 or -errno. */
int ctl_result_name(const char *partial, const char *path, bool force);

#endif
