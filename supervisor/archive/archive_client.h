/* SPDX-License-Identifier: MIT */
/* The supervisor's side of the archive process: requests that outlive one archive, and its answers
 * handed to channels. Every request is idempotent: after the archive's death it is simply asked
 * again. */
#ifndef HOLDFAST_SUPERVISOR_ARCHIVE_ARCHIVE_CLIENT_H
#define HOLDFAST_SUPERVISOR_ARCHIVE_ARCHIVE_CLIENT_H

#include "supervisor/supervisor.h"

/* Start the archive; again after its death, by the restart policy. */
void archive_client_start(struct supervisor *supervisor);
void archive_client_handle(struct child *archive, struct message *message);
void archive_client_ended(struct child *archive, const siginfo_t *end);

/* 0, or -errno: not asked; channels ask again when told that an archive is there
 * (channel_log_archive_back). */
int archive_client_recover(struct channel *channel);
int archive_client_open_segment(struct channel *channel);
int archive_client_begin(struct channel *channel, const char *from, const char *to);
void archive_client_expire(struct channel *channel);

/* Seal a segment, now or when there is an archive again. began_as: the name it had before
 * BEGIN_SEGMENT ("" = it was not begun). Frees the caller of it for good: the answer is only
 * logged. */
void archive_client_seal(struct channel *channel, const struct segment_grant *grant,
                         const char *began_as, uint64_t length);

/* Everything is sealed: let it end. */
void archive_client_stop(struct supervisor *supervisor);
void archive_client_free(struct supervisor *supervisor);

#endif
