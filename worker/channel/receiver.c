/* SPDX-License-Identifier: MIT */
/* The receiver: takes datagrams from the socket into the ring, publishes them, relays them, wakes
 * the readers. It never touches anything that can wait for a disk, and only on_full = "wait" lets a
 * reader hold it back. */
#include "worker/channel/receiver.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/inflight.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "common/ring.h"
#include "worker/channel/attention.h"
#include "worker/channel/beat.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/intake.h"
#include "worker/channel/reading.h"
#include "worker/channel/relay.h"
#include "worker/channel/thread.h"
#include "worker/channel/wakeup.h"
#include "worker/step.h"

/* While readers keep up, datagrams stay in about this much of the ring instead of sweeping through
 * all of it: memory that is neither touched nor out of the cache. */
#define WARM_BYTES   (512 * 1024)
#define RETRY_BYTES  (64 * 1024)
#define BATCH_LEAST  8
#define REFUSED_MOST 16
/* A final drain ends at an empty queue; a sender that never pauses must not keep it going for ever.
 */
#define DRAIN_NS (500 * NS_PER_MS)
/* ... and neither must a recorder that can't keep up; within what the supervisor grants a stop */
#define DRAIN_FOR_SPACE_NS (4 * NS_PER_S)
#define WAIT_FOR_SPACE_NS  (100 * NS_PER_MS)
#define TELL_FULL_NS       (60 * NS_PER_S)

struct receiver {
    struct channel_state *channel;
    uint32_t batch; /* messages asked for: grows with the load, so that a trickle doesn't prepare 64
                       of them */
    bool last_was_short;  /* the socket was empty after the last batch */
    bool last_was_sparse; /* and its messages were far shorter than what is reserved for each */
    uint64_t bytes_before;
    uint64_t rewind_at;       /* offset in the ring from where on to go back to its front */
    uint64_t waits_for_space; /* that were not told yet */
    monotonic told_full;
    bool draining; /* what the kernel has queued, for the last time */
    monotonic drain_began;
    uint64_t drain_waited_ns; /* of it, for the recorder */
    uint32_t refused;         /* batches in a row that the kernel found unusable */
};

static bool readers_caught_up(struct channel_state *channel)
{
    uint64_t seq = channel->writer.seq;
    return atomic_load_explicit(&channel->recorder_cursor, memory_order_acquire) >= seq &&
           atomic_load_explicit(&channel->decimator_cursor, memory_order_acquire) >= seq;
}

static void wait_for_more(struct channel_state *channel)
{
    struct pollfd readable = {.fd = channel->inheritance->rx, .events = POLLIN};
    beat_parked(channel, CHANNEL_THREAD_RECEIVER);
    if (channel->intake)
        intake_wait(channel->intake);
    else
        poll(&readable, 1, -1);
    beat_busy(channel, CHANNEL_THREAD_RECEIVER);
}

/* When the warm part is used up: wait for the next datagram without a reservation. By then the
 * readers have caught up, and the writer can start over at the front, which is still in the
 * processor's cache. */
static void stay_warm(struct receiver *receiver)
{
    struct channel_state *channel = receiver->channel;
    uint64_t offset = ring_writer_offset(&channel->writer);
    if (channel->writer.position > RING_REWIND_MAX)
        return;
    if (channel->reading.has_thread) /* readers have nothing else to read from */
        return;
    if (offset < WARM_BYTES)
        receiver->rewind_at = WARM_BYTES;
    /* A full batch does not tell whether the socket is empty: under load ask half as often. And the
     * newest datagram stays out of the next reservation's way: a decimated destination that goes by
     * rate may still want it. */
    uint64_t reserved = (receiver->batch + 1ull) * channel->ring.geometry.slot_size;
    if (offset < receiver->rewind_at + (receiver->last_was_short ? 0 : WARM_BYTES) ||
        offset < reserved)
        return;
    if (!readers_caught_up(channel)) {
        wakeup_now(&channel->recorder_wakeup);
        wakeup_now(&channel->decimator_wakeup);
        wait_for_more(channel);
    }
    if (readers_caught_up(channel))
        ring_rewind(&channel->writer);
    else
        receiver->rewind_at = offset + RETRY_BYTES;
}

/* A recorder that is a little too slow makes the receiver wait hundreds of times a second. */
static void tell_full(struct receiver *receiver)
{
    monotonic now = monotonic_now();
    receiver->waits_for_space++;
    if (receiver->told_full.ns && monotonic_since(now, receiver->told_full) < TELL_FULL_NS)
        return;
    char again[64] = "";
    if (receiver->told_full.ns)
        snprintf(again, sizeof again, " (%llu times since this was last said)",
                 (unsigned long long)receiver->waits_for_space);
    if (receiver->channel->intake)
        log_warning("the ring is full: the publishers wait for the recorder%s", again);
    else
        log_warning("the ring is full and on_full = \"wait\": the receiver waits for the "
                    "recorder%s; the kernel's buffer absorbs, then drops and counts",
                    again);
    receiver->told_full = now;
    receiver->waits_for_space = 0;
}

/* on_full = "wait": false when there is no room and the worker is about to stop. A final drain
 * waits for room too, but not for ever: then the oldest datagrams are overwritten, and counted. */
static bool wait_for_space(struct receiver *receiver)
{
    struct channel_state *channel = receiver->channel;
    if (!channel->spec->record.enabled || channel->spec->record.on_full != RECORD_ON_FULL_WAIT)
        return true;
    for (;;) {
        uint32_t ticket = wakeup_ticket(&channel->space_wakeup);
        uint64_t cursor = atomic_load_explicit(&channel->recorder_cursor, memory_order_acquire);
        if (!ring_reserve_would_lap(&channel->writer, receiver->batch, cursor))
            return true;
        if (receiver->draining &&
            monotonic_since(monotonic_now(), receiver->drain_began) > DRAIN_FOR_SPACE_NS)
            return !channel->intake; /* what is in an outbox stays there */
        if (!receiver->draining && channel_state_stop_phase(channel) != STOP_NOT)
            return false;
        tell_full(receiver);
        beat_parked(channel, CHANNEL_THREAD_RECEIVER);
        monotonic began = monotonic_now();
        wakeup_wait(&channel->space_wakeup, ticket, &channel->recorder_cursor, cursor + 1,
                    WAIT_FOR_SPACE_NS);
        if (receiver->draining)
            receiver->drain_waited_ns += monotonic_since(monotonic_now(), began);
        beat_busy(channel, CHANNEL_THREAD_RECEIVER);
    }
}

/* The messages of one batch lie a slot apart, whatever their length; of a single one, only its own
 * length is used. So where small datagrams have filled half of the ring before they were recorded,
 * they are taken one by one: it holds many times as many then, and a call is not that dear. */
static uint32_t affordable_batch(const struct receiver *receiver)
{
    struct channel_state *channel = receiver->channel;
    const struct channel_geometry *geometry = &channel->ring.geometry;
    uint64_t recorded = atomic_load_explicit(&channel->recorder_cursor, memory_order_acquire);
    uint64_t decimated = atomic_load_explicit(&channel->decimator_cursor, memory_order_acquire);
    uint64_t keep = recorded < decimated ? recorded : decimated;
    uint32_t half = (uint32_t)(geometry->data_capacity / geometry->slot_size / 2);
    return receiver->last_was_sparse && keep < channel->writer.seq &&
                   ring_reserve_would_lap(&channel->writer, half, keep)
               ? 1
               : receiver->batch;
}

static void adapt_batch(struct receiver *receiver, uint32_t asked, uint32_t delivered)
{
    const struct channel_geometry *geometry = &receiver->channel->ring.geometry;
    uint32_t most = geometry->slot_count;
    uint64_t bytes = receiver->channel->writer.bytes_total - receiver->bytes_before;
    receiver->bytes_before += bytes;
    receiver->last_was_sparse = bytes < (uint64_t)delivered * geometry->slot_size / 4;
    receiver->last_was_short = delivered < asked;
    if (asked < receiver->batch)
        return;
    if (delivered == receiver->batch)
        receiver->batch = receiver->batch * 2 < most ? receiver->batch * 2 : most;
    else if (delivered < receiver->batch / 4 && receiver->batch > BATCH_LEAST)
        receiver->batch /= 2;
    if (receiver->batch > most)
        receiver->batch = most;
}

/* The batch lies in shared memory: if it was damaged after it was armed, that is not the socket's
 * fault, and the next one is armed anew. */
static bool is_damaged_batch(struct receiver *receiver, int error)
{
    return (error == EFAULT || error == EMSGSIZE || error == EINVAL) &&
           ++receiver->refused < REFUSED_MOST;
}

static void pass_on(struct channel_state *channel)
{
    relay_run(channel);
    wakeup_reached(&channel->recorder_wakeup, channel->writer.seq);
    wakeup_reached(&channel->decimator_wakeup, channel->writer.seq);
    reading_published(channel);
}

/* One round of a channel with publishers. Returns the number of datagrams. */
static int take_batch(struct receiver *receiver, int flags)
{
    struct channel_state *channel = receiver->channel;
    uint32_t count = intake_take(channel->intake, receiver->batch);
    if (count > 0)
        pass_on(channel);
    else if (!(flags & MSG_DONTWAIT))
        wait_for_more(channel);
    beat_busy(channel, CHANNEL_THREAD_RECEIVER);
    receiver->last_was_short = count < receiver->batch;
    return (int)count;
}

/* One round. Returns the number of messages, 0 when interrupted or empty, -errno when the socket is
 * broken. */
static int receive_batch(struct receiver *receiver, int flags)
{
    struct channel_state *channel = receiver->channel;
    struct channel_page *page = channel->ring.page;
    if (channel->intake)
        return take_batch(receiver, flags);
    uint32_t asked = affordable_batch(receiver);

    ring_reserve(&channel->writer, asked);
    REACHED(page, receive_reserved);
    struct mmsghdr *messages = inflight_arm(&channel->writer, asked);
    REACHED(page, receive_armed);
    beat_parked(channel, CHANNEL_THREAD_RECEIVER);
    int count = recvmmsg(channel->inheritance->rx, messages, asked, flags | MSG_TRUNC, NULL);
    int error = errno;
    beat_busy(channel, CHANNEL_THREAD_RECEIVER);
    if (count <= 0)
        return count == 0 || error == EINTR || error == EAGAIN || is_damaged_batch(receiver, error)
                   ? 0
                   : -error;
    receiver->refused = 0;
    REACHED(page, receive_received);
    inflight_publish(&channel->writer, (uint32_t)count);
    REACHED(page, receive_published);
    pass_on(channel);
    adapt_batch(receiver, asked, (uint32_t)count);
    return count;
}

/* batch_delay: what comes meanwhile is taken with one call, and wakes nobody. A datagram that ends
 * a silence was not delayed; while the queue is not empty, nothing is. A signal ends it early. */
static void let_gather(const struct receiver *receiver)
{
    struct channel_state *channel = receiver->channel;
    uint64_t delay_us = channel->spec->batch_delay_us;
    const struct timespec delay = {.tv_nsec = (long)(delay_us * NS_PER_US)};
    if (delay_us == 0 || !receiver->last_was_short)
        return;
    beat_parked(channel, CHANNEL_THREAD_RECEIVER);
    nanosleep(&delay, NULL);
    beat_busy(channel, CHANNEL_THREAD_RECEIVER);
}

/* Take what the kernel has queued, but don't wait for more. */
static void drain(struct receiver *receiver)
{
    receiver->draining = true;
    receiver->drain_began = monotonic_now();
    while (wait_for_space(receiver) && receive_batch(receiver, MSG_DONTWAIT) > 0)
        if (monotonic_since(monotonic_now(), receiver->drain_began) >
            DRAIN_NS + receiver->drain_waited_ns) {
            log_notice(
                "datagrams keep coming in while stopping; what comes now is left to the kernel");
            return;
        }
}

/* Where the kernel offers it (EEVDF, Linux 6.12), a short slice brings a woken receiver onto the
 * processor before the threads that work in bulk. It needs no privilege; older kernels ignore the
 * value. What was inherited (Nice=, CPUSchedulingPolicy=) stays as it is. */
static void ask_for_short_slices(void)
{
    struct { /* SCHED_ATTR_SIZE_VER0 */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {0};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) < 0 ||
        (attributes.policy != SCHED_OTHER && attributes.policy != SCHED_BATCH))
        return;
    attributes.runtime = 100 * NS_PER_US;
    syscall(SYS_sched_setattr, 0, &attributes, 0); /* a courtesy: nothing depends on it */
}

static void apply_priority(const struct channel_spec *spec)
{
    ask_for_short_slices();
    if (spec->realtime_priority > 0) {
        struct sched_param priority = {.sched_priority = (int)spec->realtime_priority};
        if (sched_setscheduler(0, SCHED_FIFO, &priority) < 0)
            log_warning("realtime_priority = %u: %s; CAP_SYS_NICE or LimitRTPRIO= is needed; the "
                        "receiver runs at "
                        "normal priority",
                        spec->realtime_priority, strerror(errno));
    }
}

void *receiver_main(void *argument)
{
    struct channel_state *channel = argument;
    struct receiver receiver = {.channel = channel, .batch = BATCH_LEAST, .rewind_at = WARM_BYTES};
    int result = 0;

    if (receiver.batch > channel->ring.geometry.slot_count || channel->intake)
        receiver.batch = channel->ring.geometry.slot_count;
    thread_begin(channel, CHANNEL_THREAD_RECEIVER);
    beat_busy(channel, CHANNEL_THREAD_RECEIVER);
    apply_priority(channel->spec);
    relay_run(channel); /* what the predecessor published and did not get to send */
    wakeup_reached(&channel->recorder_wakeup, channel->writer.seq);
    wakeup_reached(&channel->decimator_wakeup, channel->writer.seq);

    while (channel_state_stop_phase(channel) == STOP_NOT && result >= 0) {
        stay_warm(&receiver);
        if (!wait_for_space(&receiver))
            break;
        result = receive_batch(&receiver, MSG_WAITFORONE);
        if (result > 0)
            let_gather(&receiver);
    }
    if (result < 0)
        log_error("receiving: %s; leaving, so that the supervisor can open the socket anew",
                  strerror(-result));
    else if (atomic_load(&channel->stop_drains))
        drain(&receiver);
    beat_end(channel, CHANNEL_THREAD_RECEIVER);
    atomic_store(&channel->receiver_state, result < 0 ? RECEIVER_SOCKET_BROKEN : RECEIVER_ENDED);
    attention_call(&channel->attention);
    return NULL;
}
