/* SPDX-License-Identifier: MIT */
/* The segments that a channel's worker writes. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_SEGMENTS_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_SEGMENTS_H

#include "supervisor/channel/channel.h"

/* The timer has fired: try again what has failed. */
void channel_segments_retry(struct channel *channel);
/* From the worker. */
void channel_segments_wanted(struct channel *channel);
void channel_segments_done(struct channel *channel, const struct message_segment_done *done);
void channel_segments_failed(struct channel *channel, const struct message_segment_failed *failed);
/* Regularly: what the disk has refused is copied, whether or not its worker lived to say so. */
void channel_segments_look(struct channel *channel);
/* Is there neither a record in the current segment nor a datagram that waits to become one? */
bool channel_segments_is_empty(const struct channel *channel);
/* For an operator. 0, or -errno with *ret_why. */
int channel_segments_rotate(struct channel *channel, const char **ret_why);
/* Let go of both segments: after a final stop (length from BYE), or because the ring they belong to
 * is given up. */
void channel_segments_seal_all(struct channel *channel);
/* The same where the ring is gone on with, and its worker has been waited for. */
void channel_segments_seal_and_forget(struct channel *channel);
/* What the disk has refused is nowhere but in memory. Where nobody writes there, it is copied at
 * once; a worker that does meets the refusal itself. */
void channel_segments_save_refused(struct channel *channel);
/* Maybe the last datagrams were not recorded: have it noted, if so, that their numbers were given.
 */
void channel_segments_note_numbers(struct channel *channel);
/* A supervisor before this one asked for that, and may not have been answered. */
void channel_segments_note_again(const struct channel *channel);
void channel_segments_numbered(struct channel *channel, const struct message_numbered *numbered);

#endif
