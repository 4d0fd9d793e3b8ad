/* SPDX-License-Identifier: MIT */
/* Between the recorder and the control thread: segments that come, and reports that go. The lock is
 * held for a few instructions only, and never while anything touches a file. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/channel/attention.h"
#include "worker/channel/recorder.h"
#include "worker/channel/segment.h"
#include "worker/channel/wakeup.h"

/* ---- segments that come ---- */

struct segment *recorder_take_upcoming(struct recorder *recorder)
{
    pthread_mutex_lock(&recorder->lock);
    struct segment *segment = recorder->upcoming[0];
    recorder->upcoming[0] = recorder->upcoming[1];
    recorder->upcoming[1] = NULL;
    pthread_mutex_unlock(&recorder->lock);
    return segment;
}

bool recorder_has_upcoming(struct recorder *recorder)
{
    pthread_mutex_lock(&recorder->lock);
    bool has = recorder->upcoming[0] != NULL;
    pthread_mutex_unlock(&recorder->lock);
    return has;
}

static void push_upcoming(struct recorder *recorder, struct segment *segment)
{
    pthread_mutex_lock(&recorder->lock);
    struct segment **free_place = &recorder->upcoming[recorder->upcoming[0] ? 1 : 0];
    struct segment *replaced = *free_place; /* more than asked for: the newest one counts */
    *free_place = segment;
    pthread_mutex_unlock(&recorder->lock);
    segment_release(&replaced);
}

void recorder_give(struct recorder *recorder, int *fd, const struct segment_grant *grant)
{
    int error;
    struct segment *segment = segment_open(fd, grant, &error);
    if (!segment) {
        log_error("segment %s can't be used: %s", grant->name, strerror(error));
        recorder_report_failed(recorder, grant->id, 0, error, "mapping the segment");
        return;
    }
    push_upcoming(recorder, segment);
    wakeup_now(&recorder->channel->recorder_wakeup);
}

void recorder_rotate(struct recorder *recorder)
{
    atomic_store(&recorder->rotate_wanted, 1);
    wakeup_now(&recorder->channel->recorder_wakeup);
}

/* ---- reports that go ---- */

void recorder_report_done(struct recorder *recorder, const struct commit_progress *work)
{
    pthread_mutex_lock(&recorder->lock);
    struct recorder_reports *reports = &recorder->reports;
    assert(reports->done_count < REPORTS_MAX);
    reports->done[reports->done_count++] =
        (struct message_segment_done){.finished_id = work->finished_id,
                                      .finished_length = work->finished_length,
                                      .begun_id = work->segment_id,
                                      .begun_first_seq = work->segment_first_seq,
                                      .begun_created_ns = work->segment_created_ns};
    pthread_mutex_unlock(&recorder->lock);
    attention_call(&recorder->channel->attention);
}

void recorder_report_wanted(struct recorder *recorder)
{
    pthread_mutex_lock(&recorder->lock);
    recorder->reports.wanted = true;
    pthread_mutex_unlock(&recorder->lock);
    attention_call(&recorder->channel->attention);
}

void recorder_report_failed(struct recorder *recorder, uint64_t segment_id, uint64_t length,
                            int error, const char *what)
{
    struct message_log_failed failed = {
        .segment_id = segment_id, .committed_length = length, .error = error};
    strncpy(failed.reason, what, MESSAGE_REASON_SIZE - 1);
    pthread_mutex_lock(&recorder->lock);
    struct recorder_reports *reports = &recorder->reports;
    if (reports->failed_count ==
        REPORTS_MAX) /* nobody listens: the newest one is about the segment that matters */
        reports->failed_count--;
    reports->failed[reports->failed_count++] = failed;
    pthread_mutex_unlock(&recorder->lock);
    attention_call(&recorder->channel->attention);
}

struct recorder_reports recorder_see_reports(struct recorder *recorder)
{
    pthread_mutex_lock(&recorder->lock);
    struct recorder_reports reports = recorder->reports;
    pthread_mutex_unlock(&recorder->lock);
    return reports;
}

/* The recorder may have added more since; what was sent is what stood first. */
void recorder_forget_reports(struct recorder *recorder, const struct recorder_reports *sent)
{
    pthread_mutex_lock(&recorder->lock);
    struct recorder_reports *reports = &recorder->reports;
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
    pthread_mutex_unlock(&recorder->lock);
}
