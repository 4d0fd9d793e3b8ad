/* SPDX-License-Identifier: MIT */
/* Several recordings read as one, in the order of their receive times. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_STREAM_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_STREAM_H

#include <poll.h>
#include <stdbool.h>

#include "common/client/holdfast.h"
#include "supervisor/ctl/ctl_bound.h"
#include "supervisor/ctl/ctl_source.h"

struct ctl_stream {
    const struct ctl_source *source;
    hf_reader *reader;
    struct hf_datagram head; /* what was read last; its data stays until the next one is read */
    bool has_head;
    bool is_idle;                /* nothing more for now */
    bool is_live;                /* it has come to what is new */
    bool is_finished;            /* that was all of it */
    uint64_t begin_seq, end_seq; /* for progress: what is to be read, as far as it is known */
    uint64_t done;               /* everything before this number has been handed out */
};

struct ctl_streams_setup {
    const struct ctl_sources *sources;
    const struct ctl_bounds *range;
    bool can_follow;      /* the verb has -f */
    bool follow;          /* go on with what comes */
    uint64_t tail;        /* follow: how many of those before are handed out first */
    const char *position; /* or NULL */
};

struct ctl_streams {
    struct ctl_streams_setup setup;
    struct ctl_stream *list;
    size_t count;
    struct ctl_stream *current; /* its head was handed out, and is let go of at the next call */
    struct pollfd *fds;         /* count + 1: the last one is the caller's */
    unsigned turns;             /* since idle ones were looked at */
    bool failed;                /* one ended before its end; that was told */
};

/* Accepted by ctl_streams_close() in every case. CTL_OK, or the exit status with everything
 * printed. */
int ctl_streams_open(struct ctl_streams *streams, const struct ctl_streams_setup *setup);
void ctl_streams_close(struct ctl_streams *streams);

/* HF_DATAGRAM or HF_LOST of *ret, in its head; HF_NONE: ctl_streams_wait(); HF_FINISHED. What is
 * out of range, or from another sender, is passed over. */
int ctl_streams_next(struct ctl_streams *streams, struct ctl_stream **ret);

/* The same, and waits where there is nothing for now: HF_NONE only when a signal asks for the end.
 */
int ctl_streams_take(struct ctl_streams *streams, struct ctl_stream **ret);

/* Go on at this time, or with INT64_MIN where it began. 0 or -errno. */
int ctl_streams_seek(struct ctl_streams *streams, int64_t time_ns);

/* Until there is something, `fd` hangs up (-1: none), a signal asks for the end, or this time has
 * passed (-1: never). True when fd hung up. */
bool ctl_streams_wait(struct ctl_streams *streams, int fd, int timeout_ms);

/* How much of all was handed out, of how much; 0 where that isn't known. */
void ctl_streams_progress(const struct ctl_streams *streams, uint64_t *ret_done,
                          uint64_t *ret_total);

/* That nothing was in the range that was asked for, and what there is; nothing where all was. */
void ctl_streams_tell_nothing(const struct ctl_streams *streams);

/* "engine: lost 5 datagrams from number 7: expired", without the name where there is one stream
 * only. */
void ctl_streams_tell_loss(const struct ctl_streams *streams, const struct ctl_stream *stream);

#endif
