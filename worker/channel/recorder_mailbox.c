/* SPDX-License-Identifier: MIT */
/* Between the recorder and the control thread: segments that come, and reports that go. The lock is
 * held for a few instructions only, and never while anything touches a file. */
#include "worker/channel/recorder_mailbox.h"

#include <assert.h>
#include <string.h>

#include "common/log.h"
#include "worker/channel/attention.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/segment.h"
#include "worker/channel/wakeup.h"

void recorder_mailbox_open(struct recorder_mailbox *mailbox, struct channel_state *channel)
{
    mailbox->channel = channel;
    pthread_mutex_init(&mailbox->lock, NULL);
}

/* ---- segments that come ---- */

struct segment *recorder_mailbox_take_upcoming(struct recorder_mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    struct segment *segment = mailbox->upcoming[0];
    for (uint32_t i = 0; i + 1 < UPCOMING_MAX; i++)
        mailbox->upcoming[i] = mailbox->upcoming[i + 1];
    mailbox->upcoming[UPCOMING_MAX - 1] = NULL;
    if (mailbox->inherited > 0)
        mailbox->inherited--;
    pthread_mutex_unlock(&mailbox->lock);
    return segment;
}

bool recorder_mailbox_has_upcoming(struct recorder_mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    bool has = mailbox->upcoming[0] != NULL;
    pthread_mutex_unlock(&mailbox->lock);
    return has;
}

/* At this place; what stands there, and behind it, goes one further. More than asked for: the
 * newest one takes the last one's place. */
static struct segment *put_upcoming(struct recorder_mailbox *mailbox, uint32_t place,
                                    struct segment *segment)
{
    struct segment *replaced = mailbox->upcoming[UPCOMING_MAX - 1];
    for (uint32_t i = UPCOMING_MAX - 1; i > place; i--)
        mailbox->upcoming[i] = mailbox->upcoming[i - 1];
    mailbox->upcoming[place] = segment;
    return replaced;
}

static struct segment *open_segment(struct recorder_mailbox *mailbox, int *fd,
                                    const struct segment_grant *grant)
{
    int error;
    struct segment *segment = segment_open(fd, grant, &error);
    if (!segment) {
        log_error("segment %s can't be used: %s", grant->name, strerror(error));
        recorder_mailbox_report_failed(mailbox, grant->id, 0, error, "mapping the segment");
    }
    return segment;
}

void recorder_mailbox_give(struct recorder_mailbox *mailbox, int *fd,
                           const struct segment_grant *grant)
{
    struct segment *segment = open_segment(mailbox, fd, grant);
    if (!segment)
        return;
    pthread_mutex_lock(&mailbox->lock);
    uint32_t place = 0;
    while (place < UPCOMING_MAX - 1 && mailbox->upcoming[place])
        place++;
    struct segment *replaced = put_upcoming(mailbox, place, segment);
    pthread_mutex_unlock(&mailbox->lock);
    segment_release(&replaced);
    wakeup_now(&mailbox->channel->recorder_wakeup);
}

void recorder_mailbox_inherit(struct recorder_mailbox *mailbox, int *fd,
                              const struct segment_grant *grant)
{
    struct segment *segment = open_segment(mailbox, fd, grant);
    if (!segment)
        return;
    pthread_mutex_lock(&mailbox->lock);
    struct segment *replaced = put_upcoming(mailbox, mailbox->inherited++, segment);
    pthread_mutex_unlock(&mailbox->lock);
    segment_release(&replaced);
}

void recorder_mailbox_rotate(struct recorder_mailbox *mailbox)
{
    atomic_store(&mailbox->rotate_wanted, 1);
    wakeup_now(&mailbox->channel->recorder_wakeup);
}

/* ---- reports that go ---- */

void recorder_mailbox_report_done(struct recorder_mailbox *mailbox,
                                  const struct commit_progress *work)
{
    pthread_mutex_lock(&mailbox->lock);
    struct recorder_reports *reports = &mailbox->reports;
    assert(reports->done_count < REPORTS_MAX);
    reports->done[reports->done_count++] =
        (struct message_segment_done){.finished_id = work->finished_id,
                                      .finished_length = work->finished_length,
                                      .begun_id = work->segment_id,
                                      .begun_first_seq = work->segment_first_seq,
                                      .begun_created_ns = work->segment_created_ns};
    pthread_mutex_unlock(&mailbox->lock);
    attention_call(&mailbox->channel->attention);
}

void recorder_mailbox_report_wanted(struct recorder_mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    mailbox->reports.wanted = true;
    pthread_mutex_unlock(&mailbox->lock);
    attention_call(&mailbox->channel->attention);
}

void recorder_mailbox_report_failed(struct recorder_mailbox *mailbox, uint64_t segment_id,
                                    uint64_t length, int error, const char *what)
{
    struct message_segment_failed failed = {
        .segment_id = segment_id, .committed_length = length, .error = error};
    strncpy(failed.reason, what, MESSAGE_REASON_SIZE - 1);
    pthread_mutex_lock(&mailbox->lock);
    struct recorder_reports *reports = &mailbox->reports;
    if (reports->failed_count ==
        REPORTS_MAX) /* nobody listens: the newest one is about the segment that matters */
        reports->failed_count--;
    reports->failed[reports->failed_count++] = failed;
    pthread_mutex_unlock(&mailbox->lock);
    attention_call(&mailbox->channel->attention);
}

struct recorder_reports recorder_mailbox_see_reports(struct recorder_mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    struct recorder_reports reports = mailbox->reports;
    pthread_mutex_unlock(&mailbox->lock);
    return reports;
}

/* The recorder may have added more since; what was sent is what stood first. */
void recorder_mailbox_forget_reports(struct recorder_mailbox *mailbox,
                                     const struct recorder_reports *sent)
{
    pthread_mutex_lock(&mailbox->lock);
    struct recorder_reports *reports = &mailbox->reports;
    if (sent->wanted)
        reports->wanted = false;
    reports->done_count -= sent->done_count;
    memmove(reports->done, reports->done + sent->done_count,
            reports->done_count * sizeof *reports->done);
    uint32_t failed =
        sent->failed_count < reports->failed_count ? sent->failed_count : reports->failed_count;
    reports->failed_count -= failed;
    memmove(reports->failed, reports->failed + failed,
            reports->failed_count * sizeof *reports->failed);
    pthread_mutex_unlock(&mailbox->lock);
}
