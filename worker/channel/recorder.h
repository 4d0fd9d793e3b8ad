/* SPDX-License-Identifier: MIT */
/* The recorder and its helper thread, the syncer. */
#ifndef HOLDFAST_WORKER_CHANNEL_RECORDER_H
#define HOLDFAST_WORKER_CHANNEL_RECORDER_H

#include <pthread.h>
#include <setjmp.h>

#include "common/avro_log_format.h"
#include "worker/channel/channel_worker.h"
#include "worker/channel/segment.h"

#define UPCOMING_MAX 2
#define DONE_MAX     4 /* more than can be rolled into before the control thread is asked for another segment */
#define SOURCES_CACHED 64

/* What the control thread has to tell the supervisor. */
struct recorder_reports {
    bool wanted;
    bool failed;
    uint32_t done_count;
    struct message_segment_done done[DONE_MAX];
    struct message_log_failed failed_message;
};

/* A source address as text, so that it is printed once and not per datagram. */
struct source_text {
    uint64_t address[2];
    uint64_t origin; /* scope, port, family */
    uint32_t length;
    char text[SOCKET_ADDRESS_TEXT_SIZE];
};

struct recorder {
    struct channel_worker *worker;
    struct commit_progress committed; /* what the slot says; the recorder thread's */
    monotonic block_opened;           /* first record of the open block */
    monotonic wanted_at;
    sigjmp_buf jump;
    struct source_text sources[SOURCES_CACHED];
    _Atomic uint32_t rotate_wanted;
    _Atomic uint64_t ahead; /* bytes that the syncer populates ahead of the recorder */
    _Atomic uint32_t populate_asked;
    struct wakeup syncer_wakeup;

    pthread_mutex_t lock; /* guards what follows */
    struct segment *current; /* only the recorder changes it */
    struct segment *upcoming[UPCOMING_MAX];
    struct recorder_reports reports;
};

/* Take over the inherited segments and the commit slot. 0 or -errno. */
int recorder_open(struct channel_worker *worker);
void *recorder_main(void *worker);
void *syncer_main(void *worker);

/* From the control thread: a further segment (takes *fd), an operator's rotate, and what is to be reported. */
void recorder_give(struct recorder *recorder, int *fd, const struct segment_grant *grant);
void recorder_rotate(struct recorder *recorder);
struct recorder_reports recorder_take_reports(struct recorder *recorder);

/* recorder_block.c: what is written into the segment. All return through the guard if the file fails. */
enum append_result { APPEND_DONE, APPEND_LAPPED, APPEND_FULL };
enum append_result recorder_append(struct recorder *recorder, struct commit_progress *work, uint64_t seq);
/* Seal the open block if it has records, and open the next one. */
void recorder_seal_block(struct recorder *recorder, struct commit_progress *work);
/* Start writing into a segment: file header, first block header. */
void recorder_begin_segment(struct recorder *recorder, struct commit_progress *work, struct segment *segment);
void recorder_commit(struct recorder *recorder, const struct commit_progress *work);

#endif
