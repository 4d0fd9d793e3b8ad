/* SPDX-License-Identifier: MIT */
/* Where readers go on: <log_dir>/.positions/CHANNEL/NAME (position_file.h). */
#ifndef HOLDFAST_WORKER_ARCHIVE_POSITIONS_H
#define HOLDFAST_WORKER_ARCHIVE_POSITIONS_H

#include "common/message.h"

/* Of a channel. A reader can think of any number of names, and each is a file. */
#define POSITIONS_MOST 1024
/* Of a channel, of one user: others have room, too, whatever he does. */
#define POSITIONS_MOST_OF_USER (POSITIONS_MOST / 2)

/* Keep it, or remove it, for its owner; returns when that is on the disk, or with an error and its
 * reason in *ret. What was done already may be asked for again. */
void positions_keep(const char *log_dir, const struct message_position_save *request,
                    struct message_position_saved *ret);

/* The log has lost its end, and goes on with this number: what is numbered from there on is given
 * again, so nobody is done with it. What can't be moved is told. */
void positions_go_back(const char *log_dir, const char *channel, uint64_t next_seq);

#endif
