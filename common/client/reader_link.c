/* SPDX-License-Identifier: MIT */
/* Keeps a reader connected. Called by live_reader.c and what belongs to it, from inside hf_next():
 * so nothing here waits, and whatever the gate sends or doesn't send leaves either an answer, a
 * connection that is up, or a timer that is set. Must never lose a descriptor that came, and never
 * leave the epoll descriptor readable without something to do. */
#include "common/client/reader_link.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/client/gate_link.h"
#include "common/fd.h"

#define RETRY_FIRST_NS (10 * NS_PER_MS)
#define RETRY_LAST_NS  (500 * NS_PER_MS)
/* Packets that are taken in one call. There are never as many answers; whoever sends more must not
 * keep hf_next() from returning. The descriptor stays readable then. */
#define PUMP_MOST 64

/* What a question is sent as, and what its answer has to be. */
static const struct question_kind {
    enum read_type request, answer;
    size_t size;
} kinds[QUESTION_COUNT] = {
    [ASK_HELLO] = {READ_HELLO, READ_WELCOME, sizeof(struct read_hello)},
    [ASK_ATTACH] = {READ_ATTACH, READ_ATTACHED, sizeof(struct read_attach)},
    [ASK_CLAIM] = {READ_CLAIM, READ_POSITION, sizeof(struct read_position)},
    [ASK_FIND] = {READ_FIND, READ_SEGMENT_FOUND, sizeof(struct read_find)},
    [ASK_SAVE] = {READ_SAVE, READ_POSITION, sizeof(struct read_position)},
};

/* ---- the timer ---- */

void reader_link_wake_at(struct reader_link *link, monotonic when)
{
    if (link->timer_at.ns && link->timer_at.ns <= when.ns)
        return;
    struct itimerspec setting = {.it_value = {.tv_sec = (time_t)(when.ns / NS_PER_S),
                                              .tv_nsec = (long)(when.ns % NS_PER_S)}};
    if (timerfd_settime(link->timer, TFD_TIMER_ABSTIME, &setting, NULL) == 0)
        link->timer_at = when;
}

/* Once it has run out, what it was set for is due; whoever waits longer sets it again. */
static void clear_timer(struct reader_link *link)
{
    uint64_t times;
    if (link->timer_at.ns && read(link->timer, &times, sizeof times) == (ssize_t)sizeof times) {
        link->timer_at = (monotonic){0};
        link->stirred = true;
    }
}

/* ---- the connection ---- */

int reader_link_open(struct reader_link *link, const struct sockaddr_un *address,
                     const struct read_attach *attach, const struct read_position *claim)
{
    *link = (struct reader_link){.socket = -1,
                                 .timer = -1,
                                 .attached_fd = -1,
                                 .found_fd = -1,
                                 .address = *address,
                                 .attach = *attach,
                                 .claim = *claim};
    return gate_link_begin(&link->epoll, &link->timer);
}

void reader_link_close(struct reader_link *link)
{
    fd_close(&link->socket);
    fd_close(&link->timer);
    fd_close(&link->epoll);
    fd_close(&link->attached_fd);
    fd_close(&link->found_fd);
}

/* It is gone, or of no use: try again, ever more rarely. What was asked on it stays unanswered. */
static void drop(struct reader_link *link, int error)
{
    uint64_t pause = RETRY_FIRST_NS << (link->failures < 6 ? link->failures : 6);
    gate_link_unwatch(link->epoll, &link->socket);
    link->stirred = true;
    link->greeted = link->attached_now = link->armed = false;
    link->error = error;
    for (int i = 0; i < QUESTION_COUNT; i++)
        link->questions[i].request = 0;
    link->failures++;
    link->retry_at = monotonic_add(monotonic_now(), pause < RETRY_LAST_NS ? pause : RETRY_LAST_NS);
    reader_link_wake_at(link, link->retry_at);
}

static uint32_t next_request(struct reader_link *link)
{
    if (++link->last_request == 0)
        link->last_request = 1;
    return link->last_request;
}

static int send_question(struct reader_link *link, enum question question, const void *payload)
{
    struct question_state *state = &link->questions[question];
    uint32_t request = next_request(link);
    int result = question == ASK_HELLO
                     ? gate_link_hello(link->socket, request)
                     : read_packet_send(link->socket, kinds[question].request, request, payload,
                                        kinds[question].size, -1);
    if (result < 0)
        return result;
    *state = (struct question_state){.request = request};
    return 0;
}

/* Everything that a connection begins with goes out at once. */
static void connect_again(struct reader_link *link)
{
    link->refused = 0;
    link->socket = gate_link_connect(&link->address);
    if (link->socket < 0) {
        int error = link->socket;
        link->socket = -1;
        drop(link, error);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
    int result = epoll_ctl(link->epoll, EPOLL_CTL_ADD, link->socket, &event) < 0 ? -errno : 0;
    if (result == 0)
        result = send_question(link, ASK_HELLO, NULL);
    if (result == 0)
        result = send_question(link, ASK_ATTACH, &link->attach);
    if (result == 0 && link->claim.name[0])
        result = send_question(link, ASK_CLAIM, &link->claim);
    if (result < 0)
        drop(link, result);
    else
        link->error = 0;
}

/* ---- answers ---- */

static void keep_fd(struct reader_link *link, int *fd)
{
    fd_close(fd);
    *fd = fd_take(&link->packet.fd);
}

static void keep_answer(struct reader_link *link, enum question question)
{
    switch (question) {
    case ASK_HELLO:
        link->greeted = true;
        link->turned_away = 0;
        break;
    case ASK_ATTACH:
        link->failures = 0;
        link->attached_now = true;
        link->attached = *link->packet.attached;
        keep_fd(link, &link->attached_fd);
        break;
    case ASK_FIND:
        link->found = *link->packet.found;
        keep_fd(link, &link->found_fd);
        break;
    case ASK_CLAIM:
        link->claimed = *link->packet.position;
        break;
    default:
        break;
    }
}

/* false: it is none of what this connection can bring. */
static bool take_packet(struct reader_link *link)
{
    const struct read_packet *packet = &link->packet;
    if (packet->header.type == READ_WOKEN) {
        link->armed = false;
        link->woken = link->stirred = true;
        link->woken_ring = packet->woken->ring;
        return true;
    }
    if (packet->header.type == READ_REFUSED &&
        (packet->refused->error == ESHUTDOWN ||
         (packet->header.request == 0 && gate_link_is_over(packet->refused->error))))
        return true; /* its end follows, and another connection that is asked the same */
    if (packet->header.type == READ_REFUSED && packet->header.request == 0) {
        link->refused = gate_link_error(packet->refused->error); /* as a whole: it ends */
        link->turned_away = link->refused;
        return true;
    }
    for (int i = 0; i < QUESTION_COUNT; i++) {
        struct question_state *state = &link->questions[i];
        if (state->request == 0 || state->request != packet->header.request)
            continue;
        if (packet->header.type != READ_REFUSED && packet->header.type != kinds[i].answer)
            return false;
        *state = (struct question_state){.answered = true};
        link->stirred |= i != ASK_SAVE;
        if (packet->header.type == READ_REFUSED)
            state->error = gate_link_error(packet->refused->error);
        else
            keep_answer(link, (enum question)i);
        return true;
    }
    return true; /* to what nobody wants to know any more */
}

void reader_link_pump(struct reader_link *link)
{
    clear_timer(link);
    if (link->socket < 0) {
        monotonic now = monotonic_now();
        if (now.ns < link->retry_at.ns)
            reader_link_wake_at(link, link->retry_at);
        else
            connect_again(link);
    }
    for (int i = 0; i < PUMP_MOST && link->socket >= 0; i++) {
        const char *what;
        int result = read_packet_receive(link->socket, TO_READER, &link->packet, &what);
        if (result == -ECONNRESET) /* what it said before it left a request unread lies behind */
            result = read_packet_receive(link->socket, TO_READER, &link->packet, &what);
        if (result == -EAGAIN)
            return;
        if (result <= 0) {
            drop(link, link->refused < 0 ? link->refused : result < 0 ? result : -ECONNRESET);
            return;
        }
        bool fits = take_packet(link);
        read_packet_release(&link->packet);
        const struct question_state *hello = &link->questions[ASK_HELLO];
        if (!fits || (hello->answered && hello->error < 0))
            drop(link, fits ? hello->error : -EPROTO);
    }
}

/* ---- questions ---- */

/* 0, or -EAGAIN: there is no connection, or it takes no more just now. A timer is set then. */
static int settle_sending(struct reader_link *link, int result)
{
    if (result == -EAGAIN)
        reader_link_wake_at(link, monotonic_add(monotonic_now(), RETRY_FIRST_NS));
    else if (result < 0)
        drop(link, result);
    return result < 0 ? -EAGAIN : 0;
}

int reader_link_ask(struct reader_link *link, enum question question, const void *payload)
{
    struct question_state *state = &link->questions[question];
    if (state->request)
        return 0;
    if (link->socket < 0)
        return -EAGAIN;
    return settle_sending(link, send_question(link, question, payload));
}

bool reader_link_take(struct reader_link *link, enum question question, int *ret_error)
{
    struct question_state *state = &link->questions[question];
    if (!state->answered)
        return false;
    state->answered = false;
    *ret_error = state->error;
    return true;
}

void reader_link_forget(struct reader_link *link, enum question question)
{
    link->questions[question] = (struct question_state){0};
    if (question == ASK_FIND)
        fd_close(&link->found_fd);
}

int reader_link_arm(struct reader_link *link, const struct read_arm *arm)
{
    if (link->armed)
        return 0;
    if (!link->attached_now) /* the answer to that will wake its owner */
        return -EAGAIN;
    int result = read_packet_send(link->socket, READ_ARM, next_request(link), arm, sizeof *arm, -1);
    link->armed = result == 0;
    return settle_sending(link, result);
}

void reader_link_tell_progress(struct reader_link *link, uint64_t next_seq)
{
    const struct read_progress progress = {next_seq};
    if (!link->attached_now)
        return;
    int result = read_packet_send(link->socket, READ_PROGRESS, next_request(link), &progress,
                                  sizeof progress, -1);
    if (result < 0 && result != -EAGAIN)
        drop(link, result);
}
