/* SPDX-License-Identifier: MIT */
/* The decimator: a ring reader that picks datagrams for slow destinations. keep_every picks by sequence number, so a
 * restart doesn't shift its phase; max_rate picks the newest one whenever its interval has passed. A datagram is
 * copied before it is sent: the ring may lap at any time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/channel/channel_worker.h"
#include "worker/last_words.h"

struct decimate_destination {
    const struct destination_spec *spec;
    int fd;
    int last_error;
    uint64_t interval_ns;  /* max_rate */
    monotonic due;         /* max_rate: not before */
    uint64_t newest_sent;  /* max_rate: sequence number after the last one that was sent */
};

struct decimator {
    uint32_t count;
    uint32_t first_index; /* among the channel's destinations */
    struct decimate_destination *destinations;
    struct destination_progress *counts;
    struct decimate_progress progress;
    uint64_t repeat_until;
    uint8_t *copy;
};

int decimator_open(struct channel_worker *worker)
{
    const struct channel_spec *spec = worker->spec;
    struct channel_page *page = worker->ring.page;
    struct decimator *decimator = calloc(1, sizeof *decimator);
    if (!decimator)
        return -ENOMEM;
    worker->decimator = decimator;
    decimator->count = spec->decimate_count;
    decimator->first_index = spec->relay_count;
    decimator->destinations = calloc(decimator->count, sizeof *decimator->destinations);
    decimator->counts = calloc(decimator->count, sizeof *decimator->counts);
    decimator->copy = malloc(worker->ring.geometry.slot_size);
    if (!decimator->destinations || !decimator->counts || !decimator->copy)
        return -ENOMEM;
    channel_page_read_decimate(page, &decimator->progress);
    for (uint32_t i = 0; i < decimator->count; i++) {
        uint32_t index = decimator->first_index + i;
        struct decimate_destination *destination = &decimator->destinations[i];
        destination->spec = &spec->destinations[index];
        destination->fd = worker->inheritance->destinations[index];
        if (destination->spec->max_rate)
            destination->interval_ns = NS_PER_S / destination->spec->max_rate;
        channel_page_read_destination(page, index, false, &decimator->counts[i]);
    }
    decimator->repeat_until = atomic_load(&page->decimate_attempted);
    atomic_store(&worker->decimator_cursor, decimator->progress.next_seq);
    return 0;
}

/* The first datagram at or after seq that this destination takes by count; UINT64_MAX when it goes by rate. */
static uint64_t next_by_count(const struct decimate_destination *destination, uint64_t seq)
{
    uint64_t every = destination->spec->keep_every;
    if (every == 0)
        return UINT64_MAX;
    return seq + (every - 1 - seq % every);
}

static void commit(struct channel_worker *worker, uint64_t next_seq)
{
    struct decimator *decimator = worker->decimator;
    decimator->progress.next_seq = next_seq;
    channel_page_write_decimate(worker->ring.page, &decimator->progress, decimator->counts, decimator->first_index,
                                decimator->count);
    REACHED(worker->ring.page, decimate_committed);
    atomic_store_explicit(&worker->decimator_cursor, next_seq, memory_order_release);
}

/* Send the copy. A refusal that was about an earlier datagram (ICMP) is tried once more. */
static void send_copy(struct channel_worker *worker, uint32_t index, size_t length)
{
    struct decimator *decimator = worker->decimator;
    struct decimate_destination *destination = &decimator->destinations[index];
    for (int attempt = 0; attempt < 2; attempt++) {
        if (send(destination->fd, decimator->copy, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
            decimator->counts[index].sent++;
            return;
        }
        if (errno == EAGAIN || errno == ENOBUFS)
            break;
    }
    if (destination->last_error != errno)
        log_warning("decimate %s: %s; datagrams that it refuses are counted as decimate_lost", destination->spec->name,
                    strerror(errno));
    destination->last_error = errno;
    decimator->counts[index].dropped++;
}

/* Copy one datagram out of the ring. false: lapped, or in quarantine and not to be decoded. */
static bool take_copy(struct channel_worker *worker, uint64_t seq, size_t *ret_length)
{
    struct ring_datagram datagram;
    if (!ring_peek(&worker->ring, seq, &datagram) || (datagram.flags & DATAGRAM_QUARANTINED))
        return false;
    ring_copy(worker->decimator->copy, datagram.data, datagram.length);
    if (!ring_intact(&worker->ring, &datagram))
        return false;
    TEST_PAYLOAD(CONSUMER_DECIMATE, worker->decimator->copy, datagram.length);
    *ret_length = datagram.length;
    return true;
}

static void send_one(struct channel_worker *worker, uint32_t index, uint64_t seq)
{
    struct decimator *decimator = worker->decimator;
    size_t length;
    beat_work(worker, CHANNEL_THREAD_DECIMATOR, seq, seq + 1);
    if (take_copy(worker, seq, &length)) {
        atomic_store_explicit(&worker->ring.page->decimate_attempted, seq + 1, memory_order_release);
        REACHED(worker->ring.page, decimate_attempted);
        if (seq < decimator->repeat_until)
            decimator->counts[index].repeated++;
        send_copy(worker, index, length);
        REACHED(worker->ring.page, decimate_sent);
    } else {
        decimator->progress.lost++;
    }
    beat_work(worker, CHANNEL_THREAD_DECIMATOR, 0, 0);
}

/* Everything that goes by count in [from, to), in order of sequence; each one is committed as soon as it is sent. */
static void run_by_count(struct channel_worker *worker, uint64_t from, uint64_t to)
{
    struct decimator *decimator = worker->decimator;
    for (uint64_t seq = from;;) {
        uint64_t next = UINT64_MAX;
        for (uint32_t i = 0; i < decimator->count; i++) {
            uint64_t candidate = next_by_count(&decimator->destinations[i], seq);
            if (candidate < next)
                next = candidate;
        }
        if (next >= to)
            break;
        for (uint32_t i = 0; i < decimator->count; i++)
            if (next_by_count(&decimator->destinations[i], next) == next)
                send_one(worker, i, next);
        seq = next + 1;
        commit(worker, seq);
        beat_busy(worker, CHANNEL_THREAD_DECIMATOR);
    }
    if (decimator->progress.next_seq != to)
        commit(worker, to);
}

/* The newest datagram for every destination that is due. Returns nanoseconds until the next one is due and has
 * something unsent, 0 when none waits. */
static uint64_t run_by_rate(struct channel_worker *worker, uint64_t published)
{
    struct decimator *decimator = worker->decimator;
    monotonic now = monotonic_now();
    uint64_t wait = 0;
    for (uint32_t i = 0; i < decimator->count; i++) {
        struct decimate_destination *destination = &decimator->destinations[i];
        if (!destination->interval_ns || destination->newest_sent >= published ||
            published == worker->ring.page->start_seq)
            continue;
        if (now.ns >= destination->due.ns) {
            send_one(worker, i, published - 1);
            commit(worker, decimator->progress.next_seq);
            destination->newest_sent = published;
            destination->due = monotonic_add(now, destination->interval_ns);
        } else if (wait == 0 || destination->due.ns - now.ns < wait) {
            wait = destination->due.ns - now.ns;
        }
    }
    return wait;
}

/* Sleep until the next datagram that somebody wants, or until a rate is due. */
static void wait_for_work(struct channel_worker *worker, uint64_t rate_wait)
{
    struct decimator *decimator = worker->decimator;
    uint64_t cursor = decimator->progress.next_seq;
    uint64_t wake_at = UINT64_MAX;
    for (uint32_t i = 0; i < decimator->count; i++) {
        uint64_t next = next_by_count(&decimator->destinations[i], cursor);
        if (next != UINT64_MAX && next + 1 < wake_at)
            wake_at = next + 1;
        if (decimator->destinations[i].interval_ns && rate_wait == 0)
            wake_at = cursor + 1;
    }
    beat_parked(worker, CHANNEL_THREAD_DECIMATOR);
    wakeup_wait(&worker->decimator_wakeup, &worker->relay_cursor, wake_at, rate_wait);
    beat_busy(worker, CHANNEL_THREAD_DECIMATOR);
}

void *decimator_main(void *argument)
{
    struct channel_worker *worker = argument;
    struct decimator *decimator = worker->decimator;

    last_words_thread(CHANNEL_THREAD_DECIMATOR);
    atomic_store(&worker->ring.page->beats[CHANNEL_THREAD_DECIMATOR].thread_id, (uint32_t)gettid());
    beat_busy(worker, CHANNEL_THREAD_DECIMATOR);
    for (uint32_t i = 0; i < decimator->count; i++)
        decimator->destinations[i].newest_sent = decimator->progress.next_seq;
    for (;;) {
        bool ending = stop_phase_of(worker) >= STOP_READERS; /* before `published`: nothing comes after it */
        uint64_t published = relay_cursor_of(worker);
        run_by_count(worker, decimator->progress.next_seq, published);
        uint64_t rate_wait = run_by_rate(worker, published);
        if (ending)
            break;
        wait_for_work(worker, rate_wait);
    }
    atomic_store(&worker->ring.page->beats[CHANNEL_THREAD_DECIMATOR].state, THREAD_ABSENT);
    atomic_store(&worker->decimator_done, 1);
    uint64_t one = 1;
    if (write(worker->control_event, &one, sizeof one) < 0)
        log_error("waking the control thread: %s", strerror(errno)); /* it looks by itself every 200 ms */
    return NULL;
}
