/* SPDX-License-Identifier: MIT */
/* Between the recorder and the control thread: segments that come, reports that go. */
#ifndef HOLDFAST_WORKER_CHANNEL_RECORDER_MAILBOX_H
#define HOLDFAST_WORKER_CHANNEL_RECORDER_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/channel_page.h"
#include "common/message.h"

#define UPCOMING_MAX 4 /* two that were inherited, two that came while a disk kept them waiting */
/* More than can be rolled into before the control thread is asked for another segment */
#define REPORTS_MAX 4

struct channel_state;
struct segment;

/* What the control thread has to tell the supervisor. */
struct recorder_reports {
    bool wanted;
    uint32_t done_count;
    uint32_t failed_count;
    struct message_segment_done done[REPORTS_MAX];
    struct message_segment_failed failed[REPORTS_MAX];
};

struct recorder_mailbox {
    struct channel_state *channel;
    _Atomic uint32_t rotate_wanted;         /* 0 again once the recorder has rolled, or need not */
    pthread_mutex_t lock;                   /* guards what follows */
    struct segment *upcoming[UPCOMING_MAX]; /* the first one is begun next; NULL behind the last */
    uint32_t inherited;                     /* of them, at the front */
    struct recorder_reports reports;
};

void recorder_mailbox_open(struct recorder_mailbox *mailbox, struct channel_state *channel);

/* From the control thread: a further segment (takes *fd), and an operator's rotate. */
void recorder_mailbox_give(struct recorder_mailbox *mailbox, int *fd,
                           const struct segment_grant *grant);
void recorder_mailbox_rotate(struct recorder_mailbox *mailbox);

/* What is to be reported, in order, and what of it was sent: the rest is seen again. */
struct recorder_reports recorder_mailbox_see_reports(struct recorder_mailbox *mailbox);
void recorder_mailbox_forget_reports(struct recorder_mailbox *mailbox,
                                     const struct recorder_reports *sent);

/* From the recorder, before its first round: a segment that it inherited unused (takes *fd). It
 * goes before what was given meanwhile. */
void recorder_mailbox_inherit(struct recorder_mailbox *mailbox, int *fd,
                              const struct segment_grant *grant);

/* For the recorder. Who takes a segment has a reference. */
bool recorder_mailbox_has_upcoming(struct recorder_mailbox *mailbox);
struct segment *recorder_mailbox_take_upcoming(struct recorder_mailbox *mailbox);
void recorder_mailbox_report_done(struct recorder_mailbox *mailbox,
                                  const struct commit_progress *work);
void recorder_mailbox_report_wanted(struct recorder_mailbox *mailbox);
void recorder_mailbox_report_failed(struct recorder_mailbox *mailbox, uint64_t segment_id,
                                    uint64_t length, int error, const char *what);

#endif
