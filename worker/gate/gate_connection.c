/* SPDX-License-Identifier: MIT */
/* Accepts connections and lets go of them. Called by the main loop. Must never take more than the
 * limits say, never forget a part of a connection that has ended, and never spin where descriptors
 * are short. */
#include "worker/gate/gate_connection.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "common/read_protocol.h"
#include "worker/gate/gate_activity.h"
#include "common/read_stream.h"
#include "worker/gate/gate_claims.h"
#include "worker/gate/gate_closing.h"
#include "worker/gate/gate_events.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_peer.h"
#include "worker/gate/gate_penalty.h"
#include "worker/gate/gate_pool.h"
#include "worker/gate/gate_transfer.h"
#include "worker/gate/gate_users.h"
#include "worker/gate/gate_waking.h"

/* At a time; the others wait for the next turn. */
#define ACCEPTS_MOST 16
/* So much may be under way to a reader that doesn't read; the kernel counts twice what it is told.
 * The longest packet must fit. */
#define SEND_BUFFER (20 * 1024)
/* Besides those of connections and channels: log files that threads look at, and what else is open.
 */
#define OTHER_DESCRIPTORS 64
/* A connection is one itself, and a thread may have another one for it. Where descriptors under way
 * to readers count, too, so many fit into what may be under way to one of them (SEND_BUFFER). */
#define OWN_DESCRIPTORS       4
#define UNDER_WAY_DESCRIPTORS 14

/* ---- limits ---- */

/* Descriptors under way are counted for the whole user, and compared with the limit of who sends
 * one more. What readers leave unread must never keep the supervisor from lending to workers: so we
 * are refused when half of them are used up. */
static void leave_half(struct rlimit *limit)
{
    limit->rlim_cur /= 2;
    if (setrlimit(RLIMIT_NOFILE, limit) < 0)
        log_warning("can't leave descriptors to the supervisor: %s", strerror(errno));
}

/* The kernel exempts whoever has one of these from the limit (unix(7)), but not for what he may do
 * in a namespace of his own. Its number is the first one's for ever (linux/proc_ns.h). */
static bool is_exempt(void)
{
    const ino_t first_user_namespace = 0xEFFFFFFDu;
    struct stat namespace;
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    return stat("/proc/self/ns/user", &namespace) == 0 &&
           namespace.st_ino == first_user_namespace && syscall(SYS_capget, &head, data) == 0 &&
           (data[0].effective & (1u << CAP_SYS_RESOURCE | 1u << CAP_SYS_ADMIN));
}

int gate_connection_prepare(struct gate *gate)
{
    struct rlimit limit;
    gate->descriptors_each = is_exempt() ? OWN_DESCRIPTORS : UNDER_WAY_DESCRIPTORS;
    gate->descriptors = UINT64_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        leave_half(&limit);
        gate->descriptors = limit.rlim_cur;
    }
    for (uint32_t i = 0; i < GATE_SLOTS; i++)
        gate->free_slots[i] = GATE_SLOTS - 1 - i;
    gate->free_count = GATE_SLOTS;
    int result = gate_closing_prepare(gate);
    return result < 0 ? result : fd_set_nonblocking(gate->listening);
}

uint32_t gate_connection_most(const struct gate *gate)
{
    const uint64_t others = OTHER_DESCRIPTORS + gate->channel_count;
    uint64_t most = gate->descriptors > others + OTHER_DESCRIPTORS
                        ? (gate->descriptors - others) / gate->descriptors_each
                        : OTHER_DESCRIPTORS / gate->descriptors_each;
    return most < gate->limits.connections ? (uint32_t)most : gate->limits.connections;
}

/* Where descriptors are too few for all, one user has no more than half of what there can be. */
static uint32_t share_of_user(const struct gate *gate, uint32_t most)
{
    const uint32_t share = gate->limits.connections_per_user;
    return most < gate->limits.connections && share > most / 2 ? most / 2 : share;
}

/* Why this user, or this address, may have no more; false when he may. */
static bool is_too_many(struct gate *gate, uint64_t peer, char ret_reason[READ_REASON_SIZE])
{
    const uint32_t most = gate_connection_most(gate), share = share_of_user(gate, most);
    const struct gate_user *known = gate_users_find(gate, peer);
    const bool is_short = most < gate->limits.connections;
    const bool is_trusted = peer == gate_peer_of_user(0) || peer == gate_peer_of_user(geteuid());
    const uint32_t spare = is_trusted ? GATE_CONNECTIONS_SPARE : 0;
    if (known && known->connections >= share)
        snprintf(ret_reason, READ_REASON_SIZE,
                 "connections_per_user = %u: %u of this %s are open%s",
                 gate->limits.connections_per_user, known->connections,
                 gate_peer_is_user(peer) ? "user" : "address",
                 is_short ? ", and the daemon's LimitNOFILE allows no more" : "");
    else if (gate->connection_count >= most + spare)
        snprintf(ret_reason, READ_REASON_SIZE, "connections = %u: %u are open%s",
                 gate->limits.connections, gate->connection_count,
                 is_short ? ", and the daemon's LimitNOFILE allows no more" : "");
    else
        return false;
    return true;
}

void gate_connection_limit(struct gate *gate)
{
    struct gate_limits *limits = &gate->limits;
    if (limits->connections > GATE_CONNECTIONS_MAX)
        limits->connections = GATE_CONNECTIONS_MAX;
    const uint32_t most = gate_connection_most(gate);
    const unsigned long long needed =
        2 * (limits->connections * gate->descriptors_each + 2 * OTHER_DESCRIPTORS);
    if (limits->connections_given && most < limits->connections)
        log_warning("read { connections = %u }: with a limit of %llu open files there can be %u: "
                    "set LimitNOFILE=%llu in the unit, or `ulimit -Hn`, and 2 more for each "
                    "channel",
                    limits->connections, 2 * (unsigned long long)gate->descriptors, most, needed);
}

/* ---- beginning ---- */

/* A socket that is closed with something unread in it is an error to the other side, before it sees
 * what it was told. */
static void overlook(const struct gate *gate, int fd, bool is_remote)
{
    char nothing[READ_REQUEST_MAX];
    for (int i = 0; i < READ_PIPELINE_MAX && (is_remote || gate->keeps_away); i++)
        if (recv(fd, nothing, is_remote ? sizeof nothing : 1, MSG_DONTWAIT) <= 0)
            return;
}

static void turn_away(struct gate *gate, int *fd, bool is_remote, const char *reason)
{
    struct read_refused refused = {.error = EBUSY};
    snprintf(refused.reason, sizeof refused.reason, "%s", reason);
    gate_count(gate, GATE_COUNTER_refused);
    read_packet_send(*fd, READ_REFUSED, 0, &refused, sizeof refused, -1);
    overlook(gate, *fd, is_remote);
    if (is_remote)
        fd_close(fd); /* no descriptor can be left in it */
    else
        gate_closing_turn_away(gate, fd);
}

static void append(struct gate *gate, struct gate_connection *connection)
{
    connection->previous = gate->last;
    if (gate->last)
        gate->last->next = connection;
    else
        gate->first = connection;
    gate->last = connection;
    gate->connections[connection->slot] = connection;
    gate->connection_count++;
    gate_users_count(gate, connection->peer);
    gate_count(gate, GATE_COUNTER_accepted);
}

/* The kernel finds the best size by itself, where it isn't told one; and whoever is gone without a
 * word is noticed after a while. */
static void prepare_remote(int fd)
{
    const int yes = 1, idle_s = 60, probe_s = 10, probes = 6, unanswered_ms = 60000;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe_s, sizeof probe_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_ms, sizeof unanswered_ms);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static int prepare_socket(struct gate *gate, struct gate_connection *connection, bool is_remote)
{
    const int size = SEND_BUFFER;
    socklen_t length = sizeof connection->send_buffer;
    if (is_remote) {
        connection->stream = read_stream_new(READ_REQUEST_MAX);
        if (!connection->stream)
            return -ENOMEM;
        prepare_remote(connection->fd);
    } else {
        setsockopt(connection->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
    return getsockopt(connection->fd, SOL_SOCKET, SO_SNDBUF, &connection->send_buffer, &length) < 0
               ? -errno
               : gate_events_begin(gate, connection);
}

/* Keeps *fd, or leaves it to the caller. 0 or -errno. */
static int begin(struct gate *gate, int *fd, const struct gate_connection *who, bool is_remote)
{
    struct gate_connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return -ENOMEM;
    connection->number = ++gate->next_number;
    connection->slot = gate->free_slots[gate->free_count - 1];
    connection->uid = who->uid;
    connection->pid = who->pid;
    connection->peer = who->peer;
    connection->since_ns = (int64_t)realtime_now_ns();
    connection->requests_end = &connection->requests;
    connection->fd = *fd;
    int result = prepare_socket(gate, connection, is_remote);
    if (result < 0) {
        free(connection->stream);
        free(connection);
        return result;
    }
    fd_take(fd);
    gate->free_count--;
    append(gate, connection);
    gate_activity_stirs(gate, connection);
    gate_penalty_hold(gate, connection, monotonic_now());
    return 0;
}

/* Descriptors or memory are short: those who wait are served when something was given back, or at
 * the next tick. */
static void pause_accepting(struct gate *gate, int result)
{
    log_debug("taking no more connections for now: error %d", -result);
    gate_connection_set_accepting(gate, false);
}

/* It was an error of the connection, not of the listening socket (accept(2)). */
static bool is_of_that_one(int error)
{
    static const int errors[] = {ECONNABORTED, ENETDOWN,     EPROTO,     ENOPROTOOPT, EHOSTDOWN,
                                 ENONET,       EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i] == error)
            return true;
    return false;
}

static void take_in(struct gate *gate, int listening, int *fd)
{
    const bool is_remote = listening == gate->tcp;
    struct gate_connection who = {0};
    int result = gate_peer_find(gate, listening, *fd, &who);
    char too_many[READ_REASON_SIZE];
    const char *reason = result < 0                              ? "who are you?"
                         : is_too_many(gate, who.peer, too_many) ? too_many
                                                                 : NULL;
    if (!reason)
        result = begin(gate, fd, &who, is_remote);
    if (!reason && result < 0)
        reason = "out of memory";
    if (reason)
        turn_away(gate, fd, is_remote, reason);
}

void gate_connection_accept(struct gate *gate, int listening)
{
    for (int i = 0; i < ACCEPTS_MOST && gate->accepting; i++) {
        if (gate_closing_is_held_up(gate)) {
            pause_accepting(gate, -EBUSY);
            return;
        }
        int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take_in(gate, listening, &fd);
            continue;
        }
        if (errno == EINTR || is_of_that_one(errno))
            continue;
        if (errno != EAGAIN)
            pause_accepting(gate, -errno);
        return;
    }
}

static void set_listening(struct gate *gate, int fd, enum gate_source source)
{
    struct epoll_event event = {.events = gate->accepting ? EPOLLIN : 0, .data.u64 = source};
    if (fd >= 0)
        epoll_ctl(gate->epoll, EPOLL_CTL_MOD, fd, &event);
}

void gate_connection_set_accepting(struct gate *gate, bool accepting)
{
    if (gate->accepting == accepting)
        return;
    gate->accepting = accepting;
    set_listening(gate, gate->listening, GATE_SOURCE_LISTENING);
    set_listening(gate, gate->tcp, GATE_SOURCE_TCP);
}

int gate_connection_listen(struct gate *gate, int *fd)
{
    struct epoll_event event = {.events = gate->accepting ? EPOLLIN : 0,
                                .data.u64 = GATE_SOURCE_TCP};
    int result = fd_set_nonblocking(*fd);
    if (result == 0 && epoll_ctl(gate->epoll, EPOLL_CTL_ADD, *fd, &event) < 0)
        result = -errno;
    if (result < 0) {
        fd_close(fd);
        return result;
    }
    fd_close(&gate->tcp);
    gate->tcp = fd_take(fd);
    return 0;
}

/* ---- living ---- */

struct gate_connection *gate_connection_of(struct gate *gate, uint32_t slot, uint64_t number)
{
    struct gate_connection *connection = slot < GATE_SLOTS ? gate->connections[slot] : NULL;
    return connection && connection->number == number && !connection->ended ? connection : NULL;
}

uint64_t *gate_connection_turn(struct gate *gate, const struct gate_connection *connection,
                               const struct gate_pool *pool)
{
    return &gate_users_find(gate, connection->peer)
                ->turns[pool == &gate->wide     ? 1
                        : pool == &gate->copier ? 2
                                                : 0];
}

/* ---- ending ---- */

static void unlink_it(struct gate *gate, struct gate_connection *connection)
{
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        gate->first = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    else
        gate->last = connection->previous;
    gate->connections[connection->slot] = NULL;
    gate->free_slots[gate->free_count++] = connection->slot;
    gate->connection_count--;
    gate_users_uncount(gate, connection);
}

static void forget_requests(struct gate_connection *connection)
{
    while (connection->requests) {
        struct gate_request *request = connection->requests;
        connection->requests = request->next;
        free(request);
    }
}

static void release_claims(struct gate_connection *connection)
{
    gate_claims_release(&connection->claim);
    gate_claims_release(&connection->taking);
}

/* Everything but its place and its socket; and its claims, as long as the archive may be writing:
 * somebody else would read what is about to be replaced. */
static void strip(struct gate *gate, struct gate_connection *connection)
{
    gate_waking_disarm(gate, connection);
    gate_penalty_forget(gate, connection);
    connection->channel = NULL;
    if (!connection->turn)
        release_claims(connection);
    forget_requests(connection);
    if (connection->work)
        gate_pool_forsake(connection->work->pool, &connection->work->job);
    for (uint32_t i = 0; connection->waiting && i < connection->waiting->fd_count; i++)
        gate_pool_close_fd(&gate->pool, &connection->waiting->fds[i]);
    free(connection->waiting);
    connection->waiting = NULL;
    gate_folder_release(&connection->lent_folder);
    if (connection->transfer && !connection->work)
        gate_transfer_free(gate, &connection->transfer);
    if (connection->expelled)
        overlook(gate, connection->fd, gate_peer_is_remote(connection));
}

/* Its place, too, is kept as long as the archive owes it an answer: nobody has more under way than
 * connections. */
static void forget(struct gate *gate, struct gate_connection *connection)
{
    connection->closed = true;
    if (connection->turn)
        return;
    unlink_it(gate, connection);
    gate->reporting.due = true;
    free(connection->stream);
    free(connection);
}

void gate_connection_settle(struct gate *gate, struct gate_connection *connection)
{
    if (!connection->closing)
        return; /* the end of this turn will do it */
    release_claims(connection);
    if (connection->closed)
        forget(gate, connection);
}

void gate_connection_take_closed(struct gate *gate)
{
    gate_closing_take(gate, forget);
    gate_connection_set_accepting(gate, true);
}

static void close_it(struct gate *gate, struct gate_connection *connection)
{
    if (gate_closing_close(gate, connection))
        forget(gate, connection);
}

/* What lies in the other side's queue stays there when this side is closed, for as long as it
 * likes, and so do the descriptors in it: they count, and so does the connection's place, until
 * they are received or their receiver is gone, too. */
static bool has_to_linger(const struct gate_connection *connection)
{
    int unread = 0;
    return connection->under_way > 0 && ioctl(connection->fd, SIOCOUTQ, &unread) == 0 && unread > 0;
}

static bool lingers(struct gate *gate, struct gate_connection *connection)
{
    if (!has_to_linger(connection))
        return false;
    epoll_ctl(gate->epoll, EPOLL_CTL_DEL, connection->fd, NULL);
    shutdown(connection->fd, SHUT_RDWR); /* it sees the end behind all that it was sent */
    connection->lingers = true;
    gate->lingering++;
    return true;
}

void gate_connection_look_at_lingering(struct gate *gate)
{
    for (struct gate_connection *next, *it = gate->lingering ? gate->first : NULL; it; it = next) {
        next = it->next;
        if (!it->lingers || has_to_linger(it))
            continue;
        it->lingers = false;
        gate->lingering--;
        close_it(gate, it);
    }
}

void gate_connection_reap(struct gate *gate)
{
    if (!gate->any_ended)
        return;
    gate->any_ended = false;
    for (struct gate_connection *next, *it = gate->first; it; it = next) {
        next = it->next;
        if (!it->ended || it->closing)
            continue;
        strip(gate, it);
        it->closing = true;
        if (!lingers(gate, it))
            close_it(gate, it);
    }
    gate_connection_set_accepting(gate, true);
}
