/* SPDX-License-Identifier: MIT */
/* What the verbs that read were given: channels of a running daemon, log files, folders of them. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_SOURCE_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/client/holdfast.h"
#include "supervisor/ctl/ctl_options.h"

struct ctl_source {
    hf *handle;
    struct hf_channel info;
    bool is_files; /* without a daemon */
};

struct ctl_sources {
    hf *files, *daemon; /* NULL where nothing is read so */
    struct ctl_source *list;
    size_t count;
};

/* Open what the command names; nothing named: all channels of the daemon. Accepted by
 * ctl_sources_close() in every case. CTL_OK, or the exit status with everything printed. */
int ctl_sources_open(struct ctl_sources *sources, const struct ctl_command *command);
void ctl_sources_close(struct ctl_sources *sources);

/* The daemon alone. Likewise. */
int ctl_daemon_open(const struct ctl_command *command, hf **ret);
/* Is that over TCP? */
bool ctl_daemon_is_remote(const struct ctl_command *command);

/* Something was asked of the daemon and failed: say so. Returns the exit status. */
int ctl_complain_read(const char *what, int error);

/* Where nothing was found of it: is there such a channel at all? If not, that is told. */
bool ctl_source_is_channel(hf *handle, const char *name);

#endif
