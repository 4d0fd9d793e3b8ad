/* SPDX-License-Identifier: MIT */
/* A channel's recording: the segments that it holds, and what is asked of the archive. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RECORDING_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_RECORDING_H

#include "supervisor/channel/channel.h"

/* ---- how it stands ---- */

/* Its log is not known yet, and what would be received without it is in no danger where it is: its
 * publishers have it. */
bool channel_recording_can_wait_on(struct channel *channel);
/* There is a segment, none is wanted, or it is known to fail. */
bool channel_recording_settled(const struct channel *channel);
/* How a channel has opened that waited for it: the cause of its event. */
const char *channel_recording_how_opened(const struct channel *channel);
/* So long does it wait for that, in nanoseconds; then the relay starts without its log. */
uint64_t channel_recording_patience(const struct channel *channel);
/* It has: said so, once. */
void channel_recording_wait_no_longer(struct channel *channel);
/* RECOVER is to be answered. */
bool channel_recording_is_being_recovered(const struct channel *channel);
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
/* What is unfinished beside the segment in use, if that could not be recovered before. Called every
 * minute. */
void channel_recording_clean_again(struct channel *channel);
/* The same when it has ended, once. true: an answer is to be awaited. */
bool channel_recording_clean_last(struct channel *channel);
/* Something of it is for the next start to recover. */
bool channel_recording_left_unfinished(const struct channel *channel);

/* ---- for channel_segments.c ---- */

/* 0, or -errno: not asked. */
int channel_recording_ask_for_segment(const struct channel *channel);
/* Where the current segment was begun: its name becomes the right one. */
void channel_recording_ask_to_begin(const struct channel *channel);
/* Ask for what is missing most: recovery first, then a segment. */
void channel_recording_request(struct channel *channel);
/* Sooner at first, later and later while it fails: nanoseconds. */
uint64_t channel_recording_arm_retry(struct channel *channel);
void channel_recording_enter_trouble(struct channel *channel, const char *reason);

#endif
