/* SPDX-License-Identifier: MIT */
/* Copies of sound records that an archive, or a recovery, before this one has left. */
#ifndef HOLDFAST_WORKER_ARCHIVE_MENDING_H
#define HOLDFAST_WORKER_ARCHIVE_MENDING_H

#include "common/avro_log_name.h"

/* One that was found: it gets its name, or goes where its records are in another file. 0, -EBADMSG
 * when it is none that can be told, or -errno. */
int mending_resume(int folder, const char *channel, const char *mending);

/* The copy of what was set aside as <stem>.avro.damaged, where open_name is <stem>.avro.open, gets
 * its name. 1, 0 when there is none, or -errno. */
int mending_finish_copy_of(int folder, const char *channel, const char *open_name,
                           char ret_name[SEGMENT_NAME_SIZE]);

#endif
