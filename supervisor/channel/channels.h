/* SPDX-License-Identifier: MIT */
/* All channels: made once, found by name. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNELS_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNELS_H

#include "supervisor/channel/channel.h"

struct channels {
    struct channel_host *host;
    struct channel **list; /* in the order of the configuration; then those that it doesn't have */
    size_t count;
    struct channel **by_name; /* sorted */
};

/* 0 or -ENOMEM; what was made by then is freed by channels_free(). */
int channels_make(struct channels *channels, struct channel_host *host);
void channels_free(struct channels *channels);

/* One more, of this spec, that belongs to the caller until it is freed with the channel. NULL: no
 * memory. */
struct channel *channels_add(struct channels *channels, struct channel_spec *spec);

/* By name; NULL when there is none. */
struct channel *channels_find(const struct channels *channels, const char *name);

/* An orderly end: nothing is left for a supervisor after this one to go on with. */
void channels_let_go(const struct channels *channels);

/* A worker, or a socket whose queue is still counted. */
bool channels_any_worker(const struct channels *channels);
/* Nobody waits for an answer of the archive. */
bool channels_recording_quiet(const struct channels *channels);
/* All have ended: what an earlier attempt to recover has left is tried once more. true: an answer
 * is to be awaited. */
bool channels_clean_last(const struct channels *channels);
/* ... and is for the next start. */
bool channels_left_unfinished(const struct channels *channels);
/* SIGKILL for every worker. */
void channels_kill_workers(const struct channels *channels);

/* The gate is lent what it had no room for, and told when that was all. */
void channels_lend_on(const struct channels *channels);

/* What the gate asks, and that it knows nothing yet. */
struct gate_owner channels_as_gate_owner(struct channels *channels);

/* The archive's answers, each to the channel that it names. */
struct archive_owner channels_as_archive_owner(struct channels *channels);

#endif
