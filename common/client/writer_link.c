/* SPDX-License-Identifier: MIT */
/* Asks the gate for an outbox. Called by a writer from inside hf_reserve() and its like: so nothing
 * here waits. Must never lose a descriptor that came, nor leave the epoll descriptor readable
 * without something to do. */
#include "common/client/writer_link.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/client/gate_link.h"
#include "common/fd.h"

#define RETRY_FIRST_NS (10 * NS_PER_MS)
#define RETRY_LAST_NS  NS_PER_S
#define FAILURES_MOST  7 /* of more, the pause grows no longer */

/* The connection's own request numbers. */
enum { REQUEST_HELLO = 1, REQUEST_PUBLISH = 2 };

int writer_link_open(struct writer_link *link, const struct sockaddr_un *address,
                     const char *channel)
{
    *link = (struct writer_link){.socket = -1, .timer = -1, .address = *address};
    snprintf(link->publish.channel, sizeof link->publish.channel, "%s", channel);
    return gate_link_begin(&link->epoll, &link->timer);
}

void writer_link_close(struct writer_link *link)
{
    fd_close(&link->socket);
    fd_close(&link->timer);
    fd_close(&link->epoll);
}

/* ---- the timer ---- */

static void set_timer(struct writer_link *link, monotonic when)
{
    const struct itimerspec setting = {.it_value = {.tv_sec = (time_t)(when.ns / NS_PER_S),
                                                    .tv_nsec = (long)(when.ns % NS_PER_S)}};
    if (timerfd_settime(link->timer, TFD_TIMER_ABSTIME, &setting, NULL) == 0)
        link->is_timed = true;
}

static void clear_timer(struct writer_link *link)
{
    uint64_t times;
    if (link->is_timed && read(link->timer, &times, sizeof times) == (ssize_t)sizeof times)
        link->is_timed = false;
}

void writer_link_remind(struct writer_link *link, bool is_due)
{
    const struct itimerspec setting = {.it_value.tv_nsec = is_due}; /* long ago, or never */
    if (is_due != link->is_reminding &&
        timerfd_settime(link->timer, TFD_TIMER_ABSTIME, &setting, NULL) == 0)
        link->is_reminding = is_due;
}

/* ---- the connection ---- */

static void drop(struct writer_link *link, int error)
{
    uint64_t pause = RETRY_FIRST_NS
                     << (link->failures < FAILURES_MOST ? link->failures : FAILURES_MOST);
    if (pause > RETRY_LAST_NS || link->refused)
        pause = RETRY_LAST_NS;
    gate_link_unwatch(link->epoll, &link->socket);
    link->error = error;
    link->failures++;
    link->retry_at = monotonic_add(monotonic_now(), pause);
    set_timer(link, link->retry_at);
}

static void connect_again(struct writer_link *link)
{
    link->error = 0;
    link->socket = gate_link_connect(&link->address);
    if (link->socket < 0) {
        const int error = link->socket;
        link->socket = -1;
        drop(link, error);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
    int result = epoll_ctl(link->epoll, EPOLL_CTL_ADD, link->socket, &event) < 0 ? -errno : 0;
    if (result == 0)
        result = gate_link_hello(link->socket, REQUEST_HELLO);
    if (result == 0)
        result = read_packet_send(link->socket, READ_PUBLISH, REQUEST_PUBLISH, &link->publish,
                                  sizeof link->publish, -1);
    if (result < 0 && result != -EPIPE) /* it may have said why before it ended */
        drop(link, result);
}

void writer_link_want(struct writer_link *link)
{
    writer_link_remind(link, false);
    link->wanted = true;
    link->retry_at = (monotonic){0};
    link->failures = 0;
}

void writer_link_put_off(struct writer_link *link, int error)
{
    link->wanted = true;
    link->failures = FAILURES_MOST;
    drop(link, error);
}

/* What may be otherwise in a moment says nothing about the channel. */
static bool is_passing(int error)
{
    return error == -EAGAIN || error == -EBUSY || error == -ENOMEM || error == -EMFILE ||
           error == -ENFILE || error == -ETIMEDOUT || error == -EINTR || error == -EPROTO;
}

/* 1: the outbox. 0: go on receiving. -errno: the connection is of no use. */
static int take_packet(struct writer_link *link)
{
    const struct read_packet *packet = &link->packet;
    const unsigned type = packet->header.type;
    if (type == READ_REFUSED) {
        const int error = gate_link_error(packet->refused->error);
        /* Not what it says of the connection as a whole. */
        if (packet->header.request == REQUEST_PUBLISH)
            link->refused = is_passing(error) ? 0 : error;
        return error;
    }
    if (type == READ_WELCOME && packet->header.request == REQUEST_HELLO)
        return 0;
    return type == READ_PUBLISHED && packet->header.request == REQUEST_PUBLISH ? 1 : -EPROTO;
}

static void keep_fds(struct writer_link *link, int ret_fds[READ_FDS_MAX])
{
    for (int i = 0; i < READ_FDS_MAX; i++)
        ret_fds[i] = fd_take(&link->packet.fds[i]);
    gate_link_unwatch(link->epoll, &link->socket); /* the outbox lives without it */
    if (link->is_timed)                            /* it could still become readable */
        set_timer(link, (monotonic){0});
    link->is_timed = false;
    link->wanted = false;
    link->refused = link->error = 0;
}

int writer_link_pump(struct writer_link *link, int ret_fds[READ_FDS_MAX])
{
    clear_timer(link);
    if (!link->wanted)
        return 0;
    if (link->socket < 0 && monotonic_now().ns >= link->retry_at.ns)
        connect_again(link);
    else if (link->socket < 0 && !link->is_timed)
        set_timer(link, link->retry_at);
    while (link->socket >= 0) {
        const char *what;
        int result = read_packet_receive(link->socket, TO_READER, &link->packet, &what);
        if (result == -ECONNRESET) /* what it said before it left a request unread lies behind */
            result = read_packet_receive(link->socket, TO_READER, &link->packet, &what);
        if (result == -EAGAIN)
            return 0;
        if (result == 0)
            result = -ECONNRESET;
        if (result == 1)
            result = take_packet(link);
        if (result == 1)
            keep_fds(link, ret_fds);
        read_packet_release(&link->packet);
        if (result == 1)
            return 1;
        if (result < 0)
            drop(link, result);
    }
    return 0;
}
