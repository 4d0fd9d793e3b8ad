/* SPDX-License-Identifier: MIT */
/* The recorder. */
#ifndef HOLDFAST_WORKER_CHANNEL_RECORDER_H
#define HOLDFAST_WORKER_CHANNEL_RECORDER_H

#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>

#include "common/avro_log_format.h"
#include "common/monotonic.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/segment.h"

#define UPCOMING_MAX 2
/* More than can be rolled into before the control thread is asked for another segment */
#define REPORTS_MAX    4
#define SOURCES_CACHED 64

/* What the control thread has to tell the supervisor. */
struct recorder_reports {
    bool wanted;
    uint32_t done_count;
    uint32_t failed_count;
    struct message_segment_done done[REPORTS_MAX];
    struct message_log_failed failed[REPORTS_MAX];
};

/* A source address as text, so that it is printed once and not per datagram. */
struct source_text {
    uint64_t address[2];
    uint64_t origin; /* scope, port, family */
    uint32_t length;
    char text[SOCKET_ADDRESS_TEXT_SIZE];
};

struct recorder {
    struct channel_state *channel;
    struct commit_progress committed; /* what the slot says; the recorder thread's */
    monotonic block_opened;           /* first record of the open block */
    monotonic wanted_at;
    sigjmp_buf jump;
    struct source_text sources[SOURCES_CACHED];
    _Atomic uint32_t rotate_wanted;
    struct segment *current; /* NULL when there is none */

    pthread_mutex_t lock; /* guards what follows */
    struct segment *upcoming[UPCOMING_MAX];
    struct recorder_reports reports;
};

/* Take over the inherited segments and the commit slot, after syncer_open(). 0 or -errno. */
int recorder_open(struct channel_state *channel);
void *recorder_main(void *channel);

/* recorder_mailbox.c. From the control thread: a further segment (takes *fd), and an operator's
 * rotate. */
void recorder_give(struct recorder *recorder, int *fd, const struct segment_grant *grant);
void recorder_rotate(struct recorder *recorder);
/* What is to be reported, in order, and what of it was sent: the rest is seen again. */
struct recorder_reports recorder_see_reports(struct recorder *recorder);
void recorder_forget_reports(struct recorder *recorder, const struct recorder_reports *sent);
/* For the recorder. */
bool recorder_has_upcoming(struct recorder *recorder);
struct segment *recorder_take_upcoming(struct recorder *recorder);
void recorder_report_done(struct recorder *recorder, const struct commit_progress *work);
void recorder_report_wanted(struct recorder *recorder);
void recorder_report_failed(struct recorder *recorder, uint64_t segment_id, uint64_t length,
                            int error, const char *what);

/* recorder_block.c: what is written into the segment. All return through the guard if the file
 * fails. */
enum append_result { APPEND_DONE, APPEND_LAPPED, APPEND_FULL };
enum append_result recorder_append(struct recorder *recorder, struct commit_progress *work,
                                   uint64_t seq);
/* Seal the open block if it has records, and open the next one. */
void recorder_seal_block(struct recorder *recorder, struct commit_progress *work);
/* Start writing into a segment: file header, first block header. */
void recorder_begin_segment(struct recorder *recorder, struct commit_progress *work,
                            struct segment *segment);
void recorder_commit(struct recorder *recorder, const struct commit_progress *work);

#endif
