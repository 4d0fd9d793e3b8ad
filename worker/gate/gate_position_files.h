/* SPDX-License-Identifier: MIT */
/* Readers' positions as the archive keeps them (common/position_file.h). For the gate's threads:
 * everything here may wait for a disk. */
#ifndef HOLDFAST_WORKER_GATE_POSITION_FILES_H
#define HOLDFAST_WORKER_GATE_POSITION_FILES_H

#include "common/position_file.h"
#include "common/read_protocol.h"

/* 0; -ENOENT: it was never saved; -EBADMSG: its file is damaged; or another -errno. Names that are
 * none are -EINVAL. */
int gate_position_files_read(const char *log_dir, const char *channel, const char *name,
                             struct position_file *ret);

/* At most READ_LIST_MAX in the order of channels and names, behind those that `wanted` names. How
 * many, or -errno. Damaged ones are passed over. in_use is not filled in. */
int gate_position_files_list(const char *log_dir, const struct read_list_positions *wanted,
                             struct read_position_entry ret[READ_LIST_MAX]);

#endif
