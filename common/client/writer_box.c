/* SPDX-License-Identifier: MIT */
/* Looks after a writer's outboxes. Called by writer.c, also in the middle of publishing. Must never
 * publish a datagram twice that was said to be taken, never leave one out, and never change the
 * order; nor believe a position that can't be. */
#include "common/client/writer_box.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/client/gate_link.h"
#include "common/client/writer_link.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "common/outbox.h"

#define load_acquire(word) atomic_load_explicit(&(word), memory_order_acquire)
#define load_relaxed(word) atomic_load_explicit(&(word), memory_order_relaxed)

static void fail(struct writer *writer, int error)
{
    writer->error = error;
    /* The worker sees that nothing more comes. */
    gate_link_unwatch(writer->link.epoll, &writer->bell);
    fd_close(&writer->call);
}

/* ---- the end of a box ---- */

static uint64_t durable_in(const struct writer *writer)
{
    uint64_t here = writer->base_count + load_acquire(writer->producer.map.answer->durable);
    return here < writer->committed ? here : writer->committed;
}

/* The producer's box has ended while it was being filled from the one before: that has everything
 * that was in this one, byte by byte, behind what was taken of it. */
static void go_back(struct writer *writer, uint64_t taken)
{
    outbox_unmap(&writer->producer.map);
    writer->producer = writer->carried;
    writer->carried = (struct outbox_producer){0};
    writer->taken = writer->carry_from + taken;
}

/* Nobody takes from it any more, so what is taken is final: all ends of its bell are closed, or the
 * daemon has said so. */
static void end_box(struct writer *writer)
{
    gate_link_unwatch(writer->link.epoll, &writer->bell);
    fd_close(&writer->call);
    writer_link_want(&writer->link);
    if (writer->next.head) {
        outbox_unmap(&writer->next); /* nothing was written into it */
        return;
    }
    const uint64_t taken = load_acquire(writer->producer.map.answer->taken);
    const uint64_t durable = durable_in(writer);
    if (durable > writer->durable)
        writer->durable = durable;
    if (taken > writer->producer.committed)
        fail(writer, -EPROTO);
    else if (writer->carried.map.head)
        go_back(writer, taken);
    else
        writer->taken = taken;
}

static void look_at_bell(struct writer *writer)
{
    char bytes[64];
    const struct outbox_map *map = writer->next.head ? &writer->next : &writer->producer.map;
    ssize_t count;
    if (writer->bell < 0 || writer->error)
        return;
    const uint32_t state = load_acquire(map->answer->state);
    if (state == OUTBOX_CUT_OFF) {
        fail(writer, -ECONNABORTED);
        return;
    }
    do
        count = recv(writer->bell, bytes, sizeof bytes, MSG_DONTWAIT);
    while (count > 0 || (count < 0 && errno == EINTR));
    if (count < 0 && errno == EAGAIN && state == OUTBOX_OPEN)
        return;
    if (load_acquire(map->answer->state) == OUTBOX_CUT_OFF) /* said before the bell hung up */
        fail(writer, -ECONNABORTED);
    else
        end_box(writer);
}

/* ---- another box ---- */

/* 0 or -errno; whatever happens, box and answer are closed. */
static int map_next(struct writer *writer, int fds[READ_FDS_MAX])
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
    int result = outbox_map(fds[0], fds[1], OUTBOX_PUBLISHER, &writer->next);
    if (result == 0 && epoll_ctl(writer->link.epoll, EPOLL_CTL_ADD, fds[2], &event) < 0) {
        result = -errno;
        outbox_unmap(&writer->next);
    }
    if (result == 0) {
        writer->bell = fd_take(&fds[2]);
        writer->call = fd_take(&fds[3]);
    }
    fd_close_all(fds, READ_FDS_MAX);
    return result;
}

static void look_for_next(struct writer *writer)
{
    int fds[READ_FDS_MAX];
    if (writer_link_pump(&writer->link, fds) != 1)
        return;
    int result = map_next(writer, fds);
    if (result < 0)
        writer_link_put_off(&writer->link, result);
}

/* ---- carrying over ---- */

struct record {
    const void *data;
    uint32_t length;
    int64_t time_ns;
};

/* At this position of a box that only this program writes to: the position is what somebody else
 * has said. false: there can't be one. */
static bool read_record(const struct outbox_producer *producer, uint64_t at, struct record *ret)
{
    const struct outbox_map *map = &producer->map;
    const struct outbox_record *record =
        (const struct outbox_record *)(map->records + (at & (map->capacity - 1)));
    const uint64_t left = producer->committed - at;
    if (at % OUTBOX_ALIGN != 0 || left > map->capacity || left < sizeof *record)
        return false;
    *ret = (struct record){.data = record + 1,
                           .length = load_relaxed(record->length),
                           .time_ns = load_relaxed(record->time_ns)};
    return outbox_record_size(ret->length) <= left;
}

/* Datagrams that nobody has taken; -EPROTO. */
static int64_t count_left(const struct outbox_producer *producer, uint64_t at)
{
    struct record record;
    int64_t count = 0;
    for (; at < producer->committed; at += outbox_record_size(record.length), count++)
        if (!read_record(producer, at, &record))
            return -EPROTO;
    return count;
}

static void carry_on(struct writer *writer)
{
    struct outbox_producer *from = &writer->carried;
    struct record record;
    bool call = false;
    while (writer->carry_at < from->committed && !writer->error) {
        void *to;
        bool call_now;
        int result = read_record(from, writer->carry_at, &record) ? 0 : -EPROTO;
        if (result == 0)
            result = outbox_reserve(&writer->producer, record.length, &to);
        if (result == -EAGAIN)
            break;
        if (result < 0) {
            fail(writer, result); /* -EMSGSIZE: the channel takes shorter ones now */
            return;
        }
        memcpy(to, record.data, record.length);
        outbox_commit(&writer->producer, record.length, record.time_ns, &call_now);
        call |= call_now;
        writer->carry_at += outbox_record_size(record.length);
    }
    if (call)
        writer_box_call(writer);
    if (writer->carry_at == from->committed) {
        outbox_unmap(&from->map);
        *from = (struct outbox_producer){0};
    }
}

/* From here on, `next` is the one. */
static void change_over(struct writer *writer)
{
    const int64_t left = count_left(&writer->producer, writer->taken);
    if (left < 0) {
        fail(writer, (int)left);
        return;
    }
    const uint64_t taken_count = writer->committed - (uint64_t)left;
    const struct outbox_answer *former = writer->producer.map.answer;
    if (former && former->records && writer->durable < taken_count &&
        writer->known_count == UINT64_MAX)
        writer->known_count = writer->durable;
    writer->base_count = taken_count;
    writer->carried = writer->producer;
    writer->carry_from = writer->carry_at = writer->taken;
    outbox_producer_open(&writer->producer, &writer->next);
    writer->next = (struct outbox_map){0};
    carry_on(writer);
}

/* ---- all of it ---- */

/* Of reservations, so many may pass until the next look. */
#define LOOK_EVERY 256

void writer_box_call(const struct writer *writer)
{
    const uint64_t one = 1;
    if (writer->next.head)
        return; /* the call is that one's, and this one's worker is gone */
    ssize_t result = write(writer->call, &one, sizeof one);
    (void)result; /* the bell tells when nobody listens any more */
}

void writer_box_look(struct writer *writer)
{
    writer->until_look = LOOK_EVERY;
    look_at_bell(writer);
    if (writer->bell < 0 && !writer->error)
        look_for_next(writer);
    if (!writer->producer.is_reserved && !writer->error) {
        if (writer->next.head)
            change_over(writer);
        else if (writer->carried.map.head)
            carry_on(writer);
    }
    writer->slow = writer->error || writer->bell < 0 || writer->next.head ||
                   writer->carried.map.head || writer->awaits_room;
}

uint64_t writer_box_durable(const struct writer *writer)
{
    const uint64_t now = writer->bell >= 0 && !writer->next.head ? durable_in(writer) : 0;
    return now > writer->durable ? now : writer->durable;
}

uint64_t writer_box_untaken(const struct writer *writer)
{
    const struct outbox_producer *producer = &writer->producer;
    const bool is_live = writer->bell >= 0 && !writer->next.head;
    const uint64_t taken = is_live ? load_acquire(producer->map.answer->taken) : writer->taken;
    const uint64_t here = taken < producer->committed ? producer->committed - taken : 0;
    return here + (writer->carried.map.head ? writer->carried.committed - writer->carry_at : 0);
}

void writer_box_close(struct writer *writer)
{
    /* A child has the descriptors, and no maps: there may be others of its own by now. */
    if (writer->owner == getpid()) {
        if (writer->bell >= 0) /* else the place were taken as long as a child lives */
            shutdown(writer->bell, SHUT_RDWR);
        outbox_unmap(&writer->producer.map);
        outbox_unmap(&writer->carried.map);
        outbox_unmap(&writer->next);
    }
    fd_close(&writer->bell);
    fd_close(&writer->call);
    writer_link_close(&writer->link);
}
