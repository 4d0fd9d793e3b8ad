/* SPDX-License-Identifier: MIT */
/* The thread that reads ahead, and what it has read. Called by ctl_replay.c. The queue is bounded
 * in datagrams and in bytes; only the thread uses the readers while it runs. */
#include "supervisor/ctl/ctl_replay_queue.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/monotonic.h"
#include "supervisor/ctl/ctl_text.h"

#define WAIT_MS 100 /* for a daemon, until it is looked whether something else is to be read */

static struct ctl_replay_entry *place(struct ctl_replay_queue *queue, uint64_t at)
{
    return &queue->entries[at % CTL_REPLAY_QUEUE_DATAGRAMS];
}

/* Where a payload of this length would go: in one piece. */
static uint64_t start_of(const struct ctl_replay_queue *queue, uint32_t length)
{
    const uint64_t rest = CTL_REPLAY_QUEUE_BYTES - queue->bytes_end % CTL_REPLAY_QUEUE_BYTES;
    return queue->bytes_end + (length > rest ? rest : 0);
}

static bool has_room(const struct ctl_replay_queue *queue, uint32_t length)
{
    return queue->end - queue->first < CTL_REPLAY_QUEUE_DATAGRAMS &&
           start_of(queue, length) + length - queue->bytes_first <= CTL_REPLAY_QUEUE_BYTES;
}

static void drop_first(struct ctl_replay_queue *queue)
{
    queue->bytes_first = place(queue, queue->first)->bytes_end;
    queue->first++;
}

/* ---- the thread's side; the mutex is held ---- */

/* False: something else is to be read. */
static bool push(struct ctl_replay_queue *queue, const struct ctl_replay_entry *entry)
{
    while (!queue->stop && queue->turn == entry->turn && !has_room(queue, entry->length))
        pthread_cond_wait(&queue->changed, &queue->mutex);
    if (queue->stop || queue->turn != entry->turn)
        return false;
    struct ctl_replay_entry *to = place(queue, queue->end);
    const uint64_t start = start_of(queue, entry->length);
    uint8_t *bytes = queue->bytes + start % CTL_REPLAY_QUEUE_BYTES;
    if (entry->length > 0)
        memcpy(bytes, entry->payload, entry->length);
    *to = *entry;
    to->payload = bytes;
    to->bytes_end = queue->bytes_end = start + entry->length;
    queue->end++;
    pthread_cond_broadcast(&queue->changed);
    return true;
}

static bool push_mark(struct ctl_replay_queue *queue, enum ctl_replay_kind kind, uint64_t turn)
{
    const struct ctl_replay_entry mark = {.kind = kind, .turn = turn};
    return push(queue, &mark);
}

/* From where the streams are to their end. True at the end, false when something else came. */
static bool read_through(struct ctl_replay_queue *queue, uint64_t turn, bool *ret_is_empty)
{
    struct ctl_stream *stream;
    bool goes_on = true;
    int what;
    *ret_is_empty = true;
    do {
        pthread_mutex_unlock(&queue->mutex);
        what = ctl_streams_next(queue->streams, &stream);
        if (what == HF_LOST)
            ctl_streams_tell_loss(queue->streams, stream);
        else if (what == HF_NONE)
            ctl_streams_wait(queue->streams, -1, WAIT_MS);
        pthread_mutex_lock(&queue->mutex);
        if (what == HF_DATAGRAM) {
            const struct ctl_replay_entry entry = {.kind = CTL_REPLAY_DATAGRAM,
                                                   .time_ns = stream->head.time_ns,
                                                   .seq = stream->head.seq,
                                                   .length = stream->head.length,
                                                   .was_cut = stream->head.cut > 0,
                                                   .payload = stream->head.data,
                                                   .turn = turn};
            goes_on = push(queue, &entry);
            *ret_is_empty = false;
        }
        goes_on &= !queue->stop && queue->turn == turn;
    } while (goes_on && what != HF_FINISHED);
    return goes_on;
}

/* One turn: as often as it is to be played, from where was gone to the first time. */
static void read_turn(struct ctl_replay_queue *queue, uint64_t *loops_left)
{
    const uint64_t turn = queue->turn;
    int64_t from_ns = queue->seek_ns;
    bool is_first = turn == 0;
    for (;;) {
        const bool is_whole = from_ns == INT64_MIN;
        bool is_empty = false;
        int result = 0;
        if (!is_first) {
            pthread_mutex_unlock(&queue->mutex);
            result = ctl_streams_seek(queue->streams, from_ns);
            pthread_mutex_lock(&queue->mutex);
        }
        is_first = false;
        from_ns = INT64_MIN;
        if (!push_mark(queue, CTL_REPLAY_BEGIN, turn) ||
            (result == 0 && !read_through(queue, turn, &is_empty)))
            return;
        if (queue->streams->failed || result < 0)
            break;
        if (queue->loops > 0 && --*loops_left == 0)
            break;
        if (is_whole && is_empty) /* it would be read again and again without a pause */
            break;
    }
    push_mark(queue, CTL_REPLAY_END, turn);
    /* At the end somebody may still want to go back. */
    while (!queue->stop && queue->turn == turn)
        pthread_cond_wait(&queue->changed, &queue->mutex);
    if (*loops_left == 0)
        *loops_left = 1;
}

static void *read_ahead(void *data)
{
    struct ctl_replay_queue *queue = data;
    uint64_t loops_left = queue->loops;
    pthread_mutex_lock(&queue->mutex);
    while (!queue->stop)
        read_turn(queue, &loops_left);
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

/* ---- the sender's side ---- */

int ctl_replay_queue_begin(struct ctl_replay_queue *queue, struct ctl_streams *streams,
                           uint64_t loops)
{
    sigset_t all, before;
    pthread_condattr_t attributes;
    *queue = (struct ctl_replay_queue){.streams = streams, .loops = loops, .seek_ns = INT64_MIN};
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    queue->bytes = malloc(CTL_REPLAY_QUEUE_BYTES);
    if (!queue->bytes)
        return -ENOMEM;
    /* Signals are for the sender: they interrupt what it waits for. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&queue->thread, NULL, read_ahead, queue);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    queue->runs = error == 0;
    return -error;
}

void ctl_replay_queue_end(struct ctl_replay_queue *queue)
{
    if (queue->runs) {
        pthread_mutex_lock(&queue->mutex);
        queue->stop = true;
        pthread_cond_broadcast(&queue->changed);
        pthread_mutex_unlock(&queue->mutex);
        pthread_join(queue->thread, NULL);
        queue->runs = false;
    }
    free(queue->bytes);
    queue->bytes = NULL;
}

void ctl_replay_queue_take(struct ctl_replay_queue *queue, unsigned wait_ms,
                           struct ctl_replay_entry *ret)
{
    const uint64_t until = monotonic_add(monotonic_now(), wait_ms * NS_PER_MS).ns;
    const struct timespec deadline = {(time_t)(until / NS_PER_S), (long)(until % NS_PER_S)};
    *ret = (struct ctl_replay_entry){.kind = CTL_REPLAY_NONE};
    pthread_mutex_lock(&queue->mutex);
    if (queue->is_held) {
        queue->is_held = false;
        drop_first(queue);
        pthread_cond_broadcast(&queue->changed);
    }
    int error = 0;
    while (queue->first == queue->end && error == 0)
        error = pthread_cond_timedwait(&queue->changed, &queue->mutex, &deadline);
    if (queue->first < queue->end) {
        *ret = *place(queue, queue->first);
        queue->is_held = true;
    }
    pthread_mutex_unlock(&queue->mutex);
}

void ctl_replay_queue_seek(struct ctl_replay_queue *queue, int64_t time_ns)
{
    pthread_mutex_lock(&queue->mutex);
    queue->turn++;
    queue->seek_ns = time_ns;
    queue->first = queue->end;
    queue->bytes_first = queue->bytes_end;
    queue->is_held = false;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->mutex);
}
