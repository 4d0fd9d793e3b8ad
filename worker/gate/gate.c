/* SPDX-License-Identifier: MIT */
/* The gate's main loop: one thread that waits in epoll_wait(2) and nowhere else. Called by
 * worker/main.c once it has been told to be the gate. Keeps nothing that a successor would need:
 * readers connect to the next gate and go on where they were. Nothing a reader does may make it
 * wait, grow without end, or die. */
#include "worker/gate/gate.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/message.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_connection.h"
#include "worker/gate/gate_drain.h"
#include "worker/gate/gate_events.h"
#include "worker/gate/gate_penalty.h"
#include "worker/gate/gate_pool.h"
#include "worker/gate/gate_positions.h"
#include "worker/gate/gate_publish.h"
#include "worker/gate/gate_report.h"
#include "worker/gate/gate_requests.h"
#include "worker/gate/gate_sending.h"
#include "worker/gate/gate_supervisor.h"
#include "worker/gate/gate_timeouts.h"
#include "worker/gate/gate_waking.h"
#include "worker/gate/gate_work.h"
#include "worker/last_words.h"

#define EVENTS_AT_ONCE 64
#define GATE_NICE      5
#define LIMITS_MS      1000
/* Messages of the supervisor, before it is readers' turn. */
#define MESSAGES_MOST 64

/* ---- the supervisor ---- */

static void take_channel(struct gate *gate, struct message *message)
{
    int fd = message->header.fd_count > 0 ? fd_take(&message->fds[0]) : -1;
    struct gate_channel *channel = gate_channels_lend(gate, message->channel_lent, &fd);
    if (channel) {
        gate_waking_look_at(gate, channel);
        return;
    }
    log_error("out of memory: another gate is needed");
    gate->leaving = gate->failed = true;
}

static void take_tcp(struct gate *gate, struct message *message)
{
    int fd = fd_take(&message->fds[0]);
    if (gate->draining) { /* nobody is let in any more, whoever waits there */
        fd_close(&fd);
        return;
    }
    int result = gate_connection_listen(gate, &fd);
    if (result < 0)
        log_error("readers can't be served over TCP: %s", strerror(-result));
}

static void take_limits(struct gate *gate, const struct gate_limits *limits)
{
    gate->limits = *limits;
    gate->limited = true;
    gate->pool.most = gate->wide.most = limits->queue;
    gate->copier.most = SIZE_MAX; /* asked before a file is begun: gate_sending.c */
    gate_connection_limit(gate);
}

static void take_message(struct gate *gate, struct message *message)
{
    struct gate_channel *channel;
    struct gate_connection *connection;
    switch (message->header.type) {
    case MESSAGE_CHANNEL_LENT:
        take_channel(gate, message);
        break;
    case MESSAGE_CHANNEL_GONE:
        channel = gate_channels_find(gate, message->channel_gone->channel);
        if (channel) {
            gate_waking_part(gate, channel);
            gate_channels_remove(gate, channel);
        }
        break;
    case MESSAGE_ALL_LENT:
        gate->all_lent = true;
        break;
    case MESSAGE_POSITION_SAVED:
        connection = gate_positions_saved(gate, message->position_saved);
        if (connection)
            gate_requests_go_on(gate, connection);
        break;
    case MESSAGE_TCP_LENT:
        take_tcp(gate, message);
        break;
    case MESSAGE_PUBLISHED:
        connection = gate_publish_answered(gate, message->published, message->fds);
        if (connection)
            gate_requests_go_on(gate, connection);
        break;
    case MESSAGE_GATE_ASK:
        gate_report_now(gate);
        break;
    case MESSAGE_GATE_LIMITS:
        take_limits(gate, &message->gate_limits->limits);
        break;
    case MESSAGE_STOP:
        gate_drain_begin(gate);
        break;
    default:
        log_warning("ignored a message that is not for a gate: %s",
                    message_name(message->header.type));
        break;
    }
}

static void take_messages(struct gate *gate)
{
    for (int i = 0; i < MESSAGES_MOST && !gate->leaving; i++) {
        const char *what;
        int result = message_receive(gate->supervisor, TO_CHILD, &gate->message, &what);
        if (result == -EAGAIN)
            return;
        if (result == -EBADMSG) {
            log_warning("refused a message: %s", what);
            continue;
        }
        if (result <= 0) {
            gate->leaving = true;
            return;
        }
        take_message(gate, &gate->message);
        message_release(&gate->message);
    }
}

static void receive_messages(struct gate *gate)
{
    const bool some_wait = !gate->all_lent; /* for channels */
    take_messages(gate);
    if (some_wait)
        gate_requests_look(gate);
}

/* ---- the loop ---- */

static void serve_bell(struct gate *gate)
{
    uint64_t times;
    ssize_t result = read(gate->bell, &times, sizeof times);
    (void)result; /* EAGAIN: somebody rang for nothing */
    gate_waking_look(gate);
}

static void serve_connection(struct gate *gate, const struct epoll_event *event)
{
    const uint64_t data = event->data.u64 & ~GATE_EVENT_TRANSFER;
    struct gate_connection *connection = gate_events_connection(gate, data);
    if (!connection)
        return;
    if (event->data.u64 & GATE_EVENT_TRANSFER) {
        gate_sending_go_on(gate, connection);
        gate_requests_go_on(gate, connection);
        return;
    }
    if (event->events & EPOLLOUT) {
        gate_answer_flush(gate, connection);
        gate_sending_flushed(gate, connection);
        gate_requests_go_on(gate, connection);
    }
    if (event->events & EPOLLIN && !connection->ended)
        gate_requests_receive(gate, connection);
    else if (event->events & (EPOLLHUP | EPOLLERR) && !connection->ended)
        gate_answer_end(gate, connection);
}

static void serve_event(struct gate *gate, const struct epoll_event *event)
{
    switch (event->data.u64) {
    case GATE_SOURCE_SUPERVISOR:
        if (event->events & EPOLLOUT)
            gate_supervisor_flush(gate);
        receive_messages(gate);
        break;
    case GATE_SOURCE_LISTENING:
        if (!gate->draining) /* it may be of the same turn */
            gate_connection_accept(gate, gate->listening);
        break;
    case GATE_SOURCE_TCP:
        if (!gate->draining)
            gate_connection_accept(gate, gate->tcp);
        break;
    case GATE_SOURCE_BELL:
        serve_bell(gate);
        break;
    case GATE_SOURCE_POOL:
        gate_work_take(gate, &gate->pool, gate_requests_go_on);
        break;
    case GATE_SOURCE_WIDE:
        gate_work_take(gate, &gate->wide, gate_requests_go_on);
        break;
    case GATE_SOURCE_COPIER:
        gate_work_take(gate, &gate->copier, gate_requests_go_on);
        break;
    case GATE_SOURCE_CLOSER:
        gate_connection_take_closed(gate);
        break;
    case GATE_SOURCE_TIMER:
        gate_connection_set_accepting(gate, true);
        gate_connection_look_at_lingering(gate);
        gate_report_tick(gate);
        break;
    default:
        serve_connection(gate, event);
        break;
    }
}

/* -1: until something happens. */
static int wait_ms(struct gate *gate)
{
    const monotonic now = monotonic_now();
    const int waits[] = {gate_penalty_look(gate, now), gate_timeouts_look(gate, now),
                         gate_sending_look(gate, gate_requests_go_on),
                         gate_drain_wait_ms(gate, now), gate->any_ended ? 0 : -1};
    int least = -1;
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        if (waits[i] >= 0 && (least < 0 || waits[i] < least))
            least = waits[i];
    return least;
}

static void loop(struct gate *gate)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    while (!gate->leaving) {
        int count = epoll_wait(gate->epoll, events, EVENTS_AT_ONCE, wait_ms(gate));
        if (count < 0 && errno != EINTR) {
            log_error("epoll_wait: %s", strerror(errno));
            gate->failed = true;
            return;
        }
        for (int i = 0; i < count && !gate->leaving; i++)
            serve_event(gate, &events[i]);
        gate_drain_look(gate);
        gate_connection_reap(gate);
        gate_report_later(gate);
    }
}

/* ---- beginning ---- */

static int watch(struct gate *gate, int fd, enum gate_source source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = source};
    return epoll_ctl(gate->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int map_words(struct gate *gate, int wake)
{
    struct stat status;
    if (fstat(wake, &status) < 0)
        return -errno;
    if ((uint64_t)status.st_size < READ_WAKE_MEMORY_SIZE)
        return -EBADMSG; /* touching it would be a fault */
    void *words = mmap(NULL, READ_WAKE_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, wake, 0);
    if (words == MAP_FAILED)
        return -errno;
    gate->words = words;
    _Static_assert(READ_WAKE_LAST_WORDS + sizeof(struct last_words) <= READ_WAKE_MEMORY_SIZE,
                   "they fit");
    last_words_open((struct last_words *)((char *)words + READ_WAKE_LAST_WORDS), gate->generation);
    return 0;
}

static int prepare(struct gate *gate, const struct inheritance *inheritance)
{
    gate->generation = inheritance->generation;
    gate->limits = (struct gate_limits)GATE_LIMITS_DEFAULT;
    memcpy(gate->log_dir, inheritance->assign.log_dir, sizeof gate->log_dir);
    gate->supervisor = MESSAGE_FD;
    gate->supervisor_events = EPOLLIN;
    gate->listening = inheritance->listening;
    gate->tcp = -1;
    gate->bell = inheritance->bell;
    gate->savings_end = &gate->savings;
    gate->transfers_end = &gate->transfers;
    gate->accepting = true;
    gate->epoll = epoll_create1(EPOLL_CLOEXEC);
    int result = gate->epoll < 0 ? -errno : map_words(gate, inheritance->wake);
    if (result == 0)
        result = fd_set_nonblocking(gate->supervisor);
    if (result == 0)
        result = fd_set_nonblocking(gate->bell);
    if (result == 0)
        result = gate_connection_prepare(gate);
    if (result == 0)
        result = gate_pool_open(&gate->pool, 0);
    if (result == 0)
        result = gate_pool_open(&gate->wide, 1);
    if (result == 0)
        result = gate_pool_open(&gate->copier, 0);
    if (result == 0)
        result = watch(gate, gate->copier.bell, GATE_SOURCE_COPIER);
    if (result == 0)
        result = gate_report_open(gate);
    if (result == 0)
        result = watch(gate, gate->supervisor, GATE_SOURCE_SUPERVISOR);
    if (result == 0)
        result = watch(gate, gate->bell, GATE_SOURCE_BELL);
    if (result == 0)
        result = watch(gate, gate->pool.bell, GATE_SOURCE_POOL);
    if (result == 0)
        result = watch(gate, gate->wide.bell, GATE_SOURCE_WIDE);
    return result;
}

/* They are sent right behind ASSIGN. Who sends none at all has none to set. */
static void await_limits(struct gate *gate)
{
    struct pollfd readable = {.fd = gate->supervisor, .events = POLLIN};
    receive_messages(gate);
    while (!gate->limited && !gate->leaving && poll(&readable, 1, LIMITS_MS) > 0)
        receive_messages(gate);
}

/* Limits and channels first, as far as these are here. */
static int begin(struct gate *gate)
{
    const struct message_ready ready = {0};
    await_limits(gate);
    int result = watch(gate, gate->listening, GATE_SOURCE_LISTENING);
    if (result == 0)
        result = message_send(gate->supervisor, MESSAGE_READY, gate->generation, &ready,
                              sizeof ready, NULL, 0);
    return result;
}

/* Where processors are scarce, receiving and recording go first, however many ask here. */
static void step_back(void)
{
    errno = 0;
    int nice = getpriority(PRIO_PROCESS, 0);
    if (errno == 0 && setpriority(PRIO_PROCESS, 0, nice + GATE_NICE) < 0)
        log_warning("can't give way to the channels: %s", strerror(errno));
}

int gate_run(const struct inheritance *inheritance)
{
    static struct gate only_one; /* its threads use it as long as the process lives */
    struct gate *gate = &only_one;
    log_open("gate");
    pthread_setname_np(pthread_self(), "gate");
    step_back();
    int result = prepare(gate, inheritance);
    if (result == 0)
        result = begin(gate);
    if (result < 0) {
        log_error("readers can't be served: %s", strerror(-result));
        return 1;
    }
    gate_report_later(gate);
    loop(gate);
    return gate->failed ? 1 : 0;
}
