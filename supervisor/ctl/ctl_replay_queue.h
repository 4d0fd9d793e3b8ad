/* SPDX-License-Identifier: MIT */
/* What is read ahead for replay, by a thread of its own, so that no disk delays the sender. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_REPLAY_QUEUE_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_REPLAY_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "supervisor/ctl/ctl_stream.h"

#define CTL_REPLAY_QUEUE_BYTES     (8u << 20)
#define CTL_REPLAY_QUEUE_DATAGRAMS 4096u

enum ctl_replay_kind {
    CTL_REPLAY_DATAGRAM,
    CTL_REPLAY_BEGIN, /* from here on it is the recording's beginning, or where was gone to */
    CTL_REPLAY_END,   /* that was all, or all that could be read */
    CTL_REPLAY_NONE,  /* the time is over, and nothing is there */
};

struct ctl_replay_entry {
    enum ctl_replay_kind kind;
    int64_t time_ns;
    uint64_t seq;
    uint32_t length;
    bool was_cut;             /* when it was received, behind that */
    const uint8_t *payload;   /* valid until the next take */
    uint64_t turn, bytes_end; /* the queue's own */
};

struct ctl_replay_queue {
    struct ctl_streams *streams; /* of the thread, while it runs */
    uint64_t loops;              /* 0: for ever */
    pthread_t thread;
    bool runs;
    pthread_mutex_t mutex; /* over all below */
    pthread_cond_t changed;
    struct ctl_replay_entry entries[CTL_REPLAY_QUEUE_DATAGRAMS];
    uint64_t first, end; /* of entries; counted on, the place is the rest by their number */
    uint8_t *bytes;      /* a ring for payloads: those that would go over its end begin at 0 */
    uint64_t bytes_first, bytes_end;
    bool is_held; /* the first one was taken, and stays until the next take */
    bool stop;
    uint64_t turn;   /* what was read for an earlier one is passed over */
    int64_t seek_ns; /* where this turn begins; INT64_MIN: at the beginning */
};

/* 0 or -errno. Accepted by ctl_replay_queue_end() in every case. */
int ctl_replay_queue_begin(struct ctl_replay_queue *queue, struct ctl_streams *streams,
                           uint64_t loops);
void ctl_replay_queue_end(struct ctl_replay_queue *queue);

/* The next one, or after this time CTL_REPLAY_NONE. */
void ctl_replay_queue_take(struct ctl_replay_queue *queue, unsigned wait_ms,
                           struct ctl_replay_entry *ret);

/* Go on at this moment of the recording. What lies in the queue is forgotten. */
void ctl_replay_queue_seek(struct ctl_replay_queue *queue, int64_t time_ns);

#endif
