/* SPDX-License-Identifier: MIT */
/* One client of the control socket: its bytes in, its answers out. Owned by control.c, driven by
 * the event loop. Nothing a client sends, doesn't send or doesn't read may block the supervisor,
 * grow its memory beyond the limits in control_client.h or keep other clients waiting longer than
 * one turn. */
#include "supervisor/control/control_client.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "supervisor/control/control_reserve.h"

struct control_client {
    struct control_clients *clients;
    struct control_client *previous, *next;
    int fd;
    struct ucred peer;
    sd_event_source *io;
    sd_event_source *turn;  /* more complete requests are here already: go on in the next turn */
    sd_event_source *stall; /* armed while answers wait */
    monotonic active;       /* when it came, or last sent a request */
    monotonic progress;     /* when the waiting answers last moved */
    struct control_lines lines;
    char *queue; /* answers: [queue_start, queue_end) waits; NULL when nothing does */
    size_t queue_start, queue_end;
    json_t *awaited; /* id of the request that is answered later; nothing else is taken before */
    bool ended;      /* it has sent everything it will send */
    bool refused;    /* it sent a line beyond the limit: the error goes out, what still comes in is
                        thrown away */
};

static size_t queued(const struct control_client *client)
{
    return client->queue_end - client->queue_start;
}

static void client_log_dropped(const struct control_client *client, const char *why)
{
    log_notice("control: dropped the client with pid %d, uid %u: %s", (int)client->peer.pid,
               client->peer.uid, why);
}

static void client_drop(struct control_client *client, const char *why)
{
    client_log_dropped(client, why);
    control_client_free(client);
}

void control_client_free(struct control_client *client)
{
    struct control_clients *clients = client->clients;
    if (client->previous)
        client->previous->next = client->next;
    else
        clients->first = client->next;
    if (client->next)
        client->next->previous = client->previous;
    clients->count--;
    clients->queued_total -= queued(client);
    sd_event_source_disable_unref(client->io);
    sd_event_source_disable_unref(client->turn);
    sd_event_source_disable_unref(client->stall);
    control_lines_free(&client->lines);
    json_decref(client->awaited);
    free(client->queue);
    fd_close(&client->fd);
    control_reserve_fill(&clients->reserve);
    free(client);
}

/* ---- answers out ---- */

/* Send what the socket takes. 0, or -errno when the client is gone. */
static int client_flush(struct control_client *client)
{
    while (queued(client) > 0) {
        ssize_t n = send(client->fd, client->queue + client->queue_start, queued(client),
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        client->queue_start += (size_t)n;
        client->clients->queued_total -= (size_t)n;
        client->progress = monotonic_now();
    }
    free(client->queue);
    client->queue = NULL;
    client->queue_start = client->queue_end = 0;
    if (client->refused && !client->ended)
        shutdown(client->fd, SHUT_WR); /* it sees the end; until it ends too its bytes go nowhere */
    return 0;
}

/* What waits for this client is thrown away, and the loop will find its connection ended. It is not
 * freed here: this happens in the middle of another client's turn. */
static void client_forfeit(struct control_client *client)
{
    client_log_dropped(client, "it does not read its answers and the memory is needed for others");
    client->clients->queued_total -= queued(client);
    free(client->queue);
    client->queue = NULL;
    client->queue_start = client->queue_end = 0;
    control_lines_free(&client->lines);
    client->ended = true;
    shutdown(client->fd, SHUT_RDWR); /* EPOLLHUP, which nobody can mask */
}

/* Make room for `length` more bytes in the sum of all queues, at the cost of whoever stalled
 * longest. */
static bool make_room(const struct control_client *keep, size_t length)
{
    const struct control_clients *clients = keep->clients;
    while (clients->queued_total + length > CONTROL_QUEUED_TOTAL_MAX) {
        struct control_client *worst = NULL;
        for (struct control_client *other = clients->first; other; other = other->next)
            if (other != keep && queued(other) > 0 &&
                (!worst || other->progress.ns < worst->progress.ns))
                worst = other;
        if (!worst)
            return false;
        client_forfeit(worst);
    }
    return true;
}

/* Takes the line. 0, -EPIPE when the client is gone, -ENOBUFS when it does not read what it asked
 * for. */
static int client_answer(struct control_client *client, char *line, size_t length)
{
    if (!line)
        return -ENOMEM;
    if (queued(client) + length > CONTROL_QUEUE_MAX || !make_room(client, length)) {
        free(line);
        return -ENOBUFS;
    }
    if (queued(client) == 0) {
        assert(client->queue == NULL);
        client->queue = line;
        client->queue_start = 0;
        client->queue_end = length;
        client->progress = monotonic_now();
    } else {
        char *joined = malloc(queued(client) + length);
        if (joined) {
            memcpy(joined, client->queue + client->queue_start, queued(client));
            memcpy(joined + queued(client), line, length);
        }
        free(line);
        if (!joined)
            return -ENOMEM;
        client->queue_end = queued(client) + length;
        client->queue_start = 0;
        free(client->queue);
        client->queue = joined;
    }
    client->clients->queued_total += length;
    return client_flush(client);
}

/* ---- requests in ---- */

static int client_answer_error(struct control_client *client, const json_t *id, int code,
                               json_t *message)
{
    size_t length = 0;
    char *line = control_print_error(id, code, message, &length);
    return client_answer(client, line, length);
}

static bool is_blank(const char *line, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

/* One line in, at most one line out. */
static int client_request(struct control_client *client, const char *line, size_t size)
{
    struct control_request request;
    char why[CONTROL_WHY_SIZE];
    int result = 0;

    if (is_blank(line, size))
        return 0;
    int code = control_request_parse(line, size, &request, why);
    if (code != 0) {
        result = client_answer_error(client, request.id, code, json_string(why));
        control_request_release(&request);
        return result;
    }
    json_t *error = NULL;
    client->active = monotonic_now();
    json_t *answer = client->clients->serve(client->clients->data, &client->peer, request.method,
                                            request.params, &code, &error);
    if (!request.id) { /* a notification gets no answer, not even an error */
        json_decref(answer);
        json_decref(error);
    } else if (code == CONTROL_LATER) {
        client->awaited = json_deep_copy(request.id);
    } else if (answer) {
        size_t length = 0;
        char *text = control_print_result(request.id, answer, &length);
        result = client_answer(client, text, length);
    } else {
        result = client_answer_error(client, request.id, code, error);
    }
    control_request_release(&request);
    return result;
}

static int client_refuse_long_line(struct control_client *client)
{
    char why[CONTROL_WHY_SIZE];
    snprintf(why, sizeof why, "a request has at most %u bytes", CONTROL_REQUEST_MAX);
    client->refused = true;
    control_lines_free(&client->lines);
    return client_answer_error(client, NULL, CONTROL_ERROR_REQUEST, json_string(why));
}

static bool wants_input(struct control_client *client)
{
    if (client->ended)
        return false;
    if (client->refused)
        return true;
    return queued(client) < CONTROL_QUEUE_HIGH && !control_lines_ready(&client->lines);
}

/* One read(2) per turn. */
static int client_read(struct control_client *client)
{
    char waste[8192];
    char *to = waste;
    size_t size = sizeof waste;
    if (!client->refused) {
        int error = control_lines_room(&client->lines, &to, &size);
        if (error == -EMSGSIZE)
            return client_refuse_long_line(client);
        if (error < 0)
            return error;
    }
    ssize_t n = read(client->fd, to, size);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        client->ended = true; /* half a line at the end is nobody's request */
    else if (!client->refused)
        control_lines_added(&client->lines, (size_t)n);
    return 0;
}

static int client_take_turn(struct control_client *client)
{
    monotonic begun = monotonic_now();
    const char *line;
    size_t length;
    for (int i = 0; i < CONTROL_TURN_REQUESTS && queued(client) < CONTROL_QUEUE_HIGH; i++) {
        if (client->refused || client->awaited ||
            !control_lines_next(&client->lines, &line, &length))
            return 0;
        int error = client_request(client, line, length);
        if (error < 0)
            return error;
        if (monotonic_since(monotonic_now(), begun) > CONTROL_TURN_NS)
            return 0;
    }
    return 0;
}

/* ---- what to wait for ---- */

static void client_arm_timer(struct control_client *client)
{
    uint64_t ns = CONTROL_STALL_NS;
    if (queued(client) == 0 && !client->refused) {
        sd_event_source_set_enabled(client->stall, SD_EVENT_OFF);
        return;
    }
    if (queued(client) == 0)
        ns = CONTROL_LINGER_NS;
    sd_event_source_set_time(client->stall, (client->progress.ns + ns) / NS_PER_US);
    sd_event_source_set_enabled(client->stall, SD_EVENT_ONESHOT);
}

/* A time that is over: behind those who wait already. A source that is deferred would stand before
 * them, in the order in which the clients came. */
static void client_arm_turn(struct control_client *client, bool more)
{
    if (more)
        sd_event_source_set_time(client->turn, monotonic_now().ns / NS_PER_US);
    sd_event_source_set_enabled(client->turn, more ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* After every step: set what the loop waits for, or end. The client may be gone afterwards. */
static void client_wait(struct control_client *client, int error)
{
    if (error == -EPIPE || error == -ECONNRESET) {
        control_client_free(client); /* it left: nothing to report */
        return;
    }
    if (error < 0) {
        client_drop(client,
                    error == -ENOBUFS ? "its answers do not fit into its queue" : strerror(-error));
        return;
    }
    bool more = !client->refused && !client->awaited && control_lines_ready(&client->lines);
    if (client->ended && !client->awaited && !more && queued(client) == 0) {
        control_client_free(client);
        return;
    }
    client_arm_turn(client, more && queued(client) < CONTROL_QUEUE_HIGH);
    sd_event_source_set_io_events(client->io, (wants_input(client) ? EPOLLIN : 0u) |
                                                  (queued(client) > 0 ? EPOLLOUT : 0u));
    client_arm_timer(client);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct control_client *client = userdata;
    int error = 0;
    (void)source;
    (void)fd;
    if (client->awaited && events & (EPOLLHUP | EPOLLERR)) {
        control_client_free(client); /* nobody waits any more, and the loop would not rest */
        return 0;
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        error = client_flush(client);
    if (error == 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && wants_input(client))
        error = client_read(client);
    if (error == 0)
        error = client_take_turn(client);
    client_wait(client, error);
    return 0;
}

static int on_turn(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct control_client *client = userdata;
    (void)source;
    (void)usec;
    client_wait(client, client_take_turn(client));
    return 0;
}

static int on_stall(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct control_client *client = userdata;
    (void)source;
    (void)usec;
    if (queued(client) > 0)
        client_drop(client, "it has not read its answer for 10 s");
    else
        control_client_free(client); /* refused, and it goes on sending */
    return 0;
}

void control_clients_answer_waiting(struct control_clients *clients, const char *why)
{
    struct control_client *next = NULL;
    for (struct control_client *client = clients->first; client; client = next) {
        json_t *id = client->awaited;
        size_t length = 0;
        next = client->next;
        if (!id)
            continue;
        client->awaited = NULL;
        int error;
        if (why) {
            error = client_answer_error(client, id, CONTROL_ERROR_REFUSED, control_text(why));
        } else {
            char *line = control_print_result(id, json_pack("{s:b}", "accepted", 1), &length);
            error = client_answer(client, line, length);
        }
        json_decref(id);
        client_wait(client, error);
    }
}

static int client_watch(struct control_client *client)
{
    sd_event *event = client->clients->event;
    int error = sd_event_add_io(event, &client->io, client->fd, EPOLLIN, on_io, client);
    if (error >= 0)
        error = sd_event_add_time(event, &client->turn, CLOCK_MONOTONIC, 0, 1, on_turn, client);
    if (error >= 0)
        error = sd_event_source_set_enabled(client->turn, SD_EVENT_OFF);
    if (error >= 0)
        error = sd_event_add_time(event, &client->stall, CLOCK_MONOTONIC, 0, 100 * 1000, on_stall,
                                  client);
    if (error >= 0)
        error = sd_event_source_set_enabled(client->stall, SD_EVENT_OFF);
    if (error < 0)
        return error;
    sd_event_source_set_priority(client->io, CONTROL_PRIORITY);
    sd_event_source_set_priority(client->turn, CONTROL_PRIORITY);
    sd_event_source_set_priority(client->stall, CONTROL_PRIORITY);
    return 0;
}

bool control_clients_evict(struct control_clients *clients)
{
    struct control_client *idlest = NULL;
    for (struct control_client *it = clients->first; it; it = it->next)
        if (queued(it) == 0 && !it->awaited && (!idlest || it->active.ns < idlest->active.ns))
            idlest = it;
    if (!idlest || monotonic_since(monotonic_now(), idlest->active) < CONTROL_IDLE_NS)
        return false;
    client_drop(idlest, "it was idle for longest, and its place is needed");
    return true;
}

int control_client_new(struct control_clients *clients, int fd)
{
    struct control_client *client = calloc(1, sizeof *client);
    socklen_t size = sizeof client->peer;
    if (!client) {
        fd_close(&fd);
        return -ENOMEM;
    }
    client->clients = clients;
    client->fd = fd;
    client->active = monotonic_now();
    control_lines_init(&client->lines, CONTROL_REQUEST_MAX);
    client->next = clients->first;
    if (client->next)
        client->next->previous = client;
    clients->first = client;
    clients->count++;

    int error = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &client->peer, &size) < 0
                    ? -errno
                    : client_watch(client);
    if (error < 0)
        control_client_free(client);
    return error < 0 ? error : 0;
}
