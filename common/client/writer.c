/* SPDX-License-Identifier: MIT */
/* A writer as programs have it: hf_reserve() and its like. Called by programs, and by live.c, which
 * opens it. Reserving and committing must never wait, and make no system call but to wake the
 * worker, and for a look at the bell now and then: otherwise a writer that has room would never
 * notice that its outbox has ended, and its descriptor would stay readable. */
#include "common/client/writer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/client/gate_link.h"
#include "common/client/holdfast.h"
#include "common/client/writer_box.h"
#include "common/client/writer_link.h"
#include "common/monotonic.h"
#include "common/outbox.h"

/* By the wall clock, which is read for every datagram anyway; when that was set, a look too many.
 */
#define LOOK_EVERY_NS       ((int64_t)(20 * NS_PER_MS))

#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* ---- what the descriptor tells ---- */

/* 0, -EAGAIN: not yet; or why it never will be, or can't be known. */
static int durable_now(const struct writer *writer, uint64_t count)
{
    if (count == 0)
        return 0;
    if (count > writer->known_count)
        return -ENODATA;
    if (writer_box_durable(writer) >= count)
        return 0;
    if (writer->error)
        return writer->error;
    if (!writer->producer.map.answer->records)
        return -EOPNOTSUPP;
    return writer->link.refused ? writer->link.refused : -EAGAIN;
}

/* Have the bell rung when there are so many. */
static void want_durable(const struct writer *writer, uint64_t count)
{
    if (writer->bell < 0 || writer->next.head || count <= writer->base_count)
        return;
    atomic_store_explicit(&writer->producer.map.head->wants_durable, count - writer->base_count,
                          memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* before the look that follows */
}

/* Is there something of what the program waits for? */
static bool room_is_due(struct writer *writer)
{
    if (!writer->awaits_room || writer->error)
        return writer->awaits_room;
    return writer->bell >= 0 && !writer->next.head && !writer->carried.map.head &&
           outbox_room_has_come(&writer->producer, writer->awaited);
}

static bool durable_is_due(const struct writer *writer)
{
    return writer->awaits_durable && (writer->bell >= 0 || writer->error) &&
           durable_now(writer, writer->awaits_durable) != -EAGAIN;
}

/* The bell may have been heard while the program asked for something else, or the outbox may be
 * another one now: what was waited for is told until it is asked for. */
static void remind(struct writer *writer)
{
    if (writer->awaits_durable)
        want_durable(writer, writer->awaits_durable);
    if (writer->bell >= 0 || writer->error)
        writer_link_remind(&writer->link, room_is_due(writer) || durable_is_due(writer));
}

static void look(struct writer *writer)
{
    writer_box_look(writer);
    remind(writer);
}

/* ---- publishing ---- */

static int reserve_slowly(struct writer *writer, uint32_t length, void **ret)
{
    outbox_abort(&writer->producer);
    writer->awaits_room = false;
    look(writer);
    if (writer->error)
        return writer->error;
    if (writer->link.refused)
        return writer->link.refused;
    int result =
        writer->carried.map.head ? -EAGAIN : outbox_reserve(&writer->producer, length, ret);
    writer->awaits_room = result == -EAGAIN;
    writer->awaited = length;
    writer->slow |= writer->awaits_room;
    return result;
}

int hf_reserve(hf_writer *base, uint32_t length, void **ret)
{
    struct writer *writer = writer_of(base);
    if (unlikely(writer->slow || --writer->until_look == 0))
        return reserve_slowly(writer, length, ret);
    int result = outbox_reserve(&writer->producer, length, ret);
    if (unlikely(result == -EAGAIN)) {
        writer->awaits_room = writer->slow = true;
        writer->awaited = length;
    }
    return result;
}

int hf_commit(hf_writer *base, uint32_t length)
{
    struct writer *writer = writer_of(base);
    bool call;
    if (unlikely(writer->error))
        return writer->error;
    const int64_t now = (int64_t)realtime_now_ns();
    int result = outbox_commit(&writer->producer, length, now, &call);
    if (unlikely(result < 0))
        return result;
    writer->committed++;
    if (call)
        writer_box_call(writer);
    if (unlikely((uint64_t)(now - writer->looked_ns) >= (uint64_t)LOOK_EVERY_NS || writer->slow)) {
        writer->looked_ns = now;
        look(writer);
    }
    return writer->error;
}

void hf_abort(hf_writer *base)
{
    outbox_abort(&writer_of(base)->producer);
}

int hf_writer_fd(hf_writer *base)
{
    return writer_of(base)->link.epoll;
}

uint32_t hf_writer_limit(const hf_writer *base)
{
    return ((const struct writer *)base)->producer.map.answer->max_datagram;
}

uint64_t hf_writer_untaken(hf_writer *base)
{
    look(writer_of(base));
    return writer_box_untaken(writer_of(base));
}

/* ---- durability ---- */

/* Until the descriptor is readable. deadline 0: for ever. 0 or -errno. */
static int wait_readable(const struct writer *writer, monotonic deadline)
{
    struct pollfd readable = {.fd = writer->link.epoll, .events = POLLIN};
    struct timespec left = {0};
    if (deadline.ns) {
        const uint64_t ns = monotonic_since(deadline, monotonic_now());
        if (ns == 0)
            return -ETIMEDOUT;
        left = (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
    }
    int count = ppoll(&readable, 1, deadline.ns ? &left : NULL, NULL);
    return count > 0 ? 0 : count == 0 ? -ETIMEDOUT : -errno;
}

/* 0, -ETIMEDOUT, or what is wrong. */
static int wait_durable(struct writer *writer, uint64_t count, int timeout_ms)
{
    const monotonic deadline =
        timeout_ms < 0 ? (monotonic){0}
                       : monotonic_add(monotonic_now(), (uint64_t)timeout_ms * NS_PER_MS);
    for (;;) {
        writer_box_look(writer);
        int result = durable_now(writer, count);
        if (result == -EAGAIN) {
            want_durable(writer, count);
            result = durable_now(writer, count);
        }
        if (result == -EAGAIN)
            result = timeout_ms == 0 ? -ETIMEDOUT : wait_readable(writer, deadline);
        else
            return result;
        if (result < 0)
            return result;
    }
}

int hf_wait_durable(hf_writer *base, uint64_t count, int timeout_ms)
{
    struct writer *writer = writer_of(base);
    if (count > writer->committed)
        return -EINVAL;
    writer_link_remind(&writer->link, false); /* it would be woken by what it does not wait for */
    int result = wait_durable(writer, count, timeout_ms);
    if (result == -ETIMEDOUT || result == -EINTR)
        writer->awaits_durable = count;
    else if (result < 0 || count >= writer->awaits_durable)
        writer->awaits_durable = 0;
    if (count == 0) { /* the program has heard it, and does not want it now */
        writer->awaits_room = writer->awaits_room && !room_is_due(writer);
        if (durable_is_due(writer))
            writer->awaits_durable = 0;
    }
    remind(writer);
    return result;
}

/* ---- beginning and end ---- */

static void writer_close(hf_writer *base)
{
    struct writer *writer = writer_of(base);
    writer_box_close(writer);
    free(writer);
}

/* Those behind which there may be another gate in a moment. */
static bool is_worth_waiting(const struct writer_link *link)
{
    return !link->refused && (link->error == 0 || link->error == -ECONNRESET ||
                              link->error == -EAGAIN || link->error == -EBUSY);
}

static int wait_for_box(struct writer *writer)
{
    const monotonic deadline = monotonic_add(monotonic_now(), GATE_PATIENCE_NS);
    const struct writer_link *link = &writer->link;
    bool is_busy = false;
    for (;;) {
        writer_box_look(writer);
        if (writer->bell >= 0)
            return 0;
        if (!is_worth_waiting(link))
            return link->refused ? link->refused : link->error;
        is_busy |= link->error == -EBUSY;
        int result = gate_link_wait(link->epoll, deadline);
        if (result < 0)
            return result == -ETIMEDOUT && is_busy ? -EBUSY : result;
    }
}

int writer_open(const struct sockaddr_un *address, const char *channel, hf_writer **ret)
{
    if (strlen(channel) >= CHANNEL_NAME_SIZE)
        return -ENOENT;
    struct writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return -ENOMEM;
    writer->base.close = writer_close;
    writer->owner = getpid();
    writer->bell = writer->call = -1;
    writer->known_count = UINT64_MAX;
    int result = writer_link_open(&writer->link, address, channel);
    if (result == 0) {
        writer_link_want(&writer->link);
        result = wait_for_box(writer);
    }
    if (result < 0) {
        writer_close(&writer->base);
        return result;
    }
    *ret = &writer->base;
    return 0;
}
