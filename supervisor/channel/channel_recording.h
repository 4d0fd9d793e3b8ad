/* SPDX-License-Identifier: MIT */
/* A channel's recording: the segments that it holds, and what is asked of the archive. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RECORDING_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RECORDING_H

#include "supervisor/channel/channel.h"

/* ---- how it stands ---- */

/* There is a segment, none is wanted, or it is known to fail. */
bool channel_recording_settled(const struct channel *channel);
/* How a channel has opened that waited for it: the cause of its event. */
const char *channel_recording_how_opened(const struct channel *channel);
/* No answer is outstanding. */
bool channel_recording_quiet(const struct channel *channel);
/* It goes on at a later number than the worker's ring: the worker must make room for another. */
bool channel_recording_restarts_worker(const struct channel *channel);

/* ---- what happens to it ---- */

/* OPENING: get a segment if there is none. */
void channel_recording_begin(struct channel *channel);
/* RECOVERED or SEGMENT from the archive. Takes the fds it wants. */
void channel_recording_answer(struct channel *channel, struct message *message);
/* A new archive runs: ask it again. */
void channel_recording_archive_back(struct channel *channel);
/* The timer has fired: try again what has failed. */
void channel_recording_retry(struct channel *channel);
/* What is unfinished beside the segment in use, if that could not be recovered before. */
void channel_recording_clean_again(struct channel *channel);
/* From the worker. */
void channel_recording_wanted(struct channel *channel);
void channel_recording_segment_done(struct channel *channel,
                                    const struct message_segment_done *done);
void channel_recording_failed(struct channel *channel, const struct message_segment_failed *failed);
/* Is there neither a record in the current segment nor a datagram that waits to become one? */
bool channel_recording_is_empty(const struct channel *channel);
/* For an operator. 0, or -errno with *ret_why. */
int channel_recording_rotate(struct channel *channel, const char **ret_why);
/* Let go of both segments: after a final stop (length from BYE), or because the ring they belong to
 * is given up. */
void channel_recording_seal_all(struct channel *channel);

#endif
