/* SPDX-License-Identifier: MIT */
/* Child processes: spawn, talk, wait. What a child says and its end go to its owner (struct
 * child_owner). Must never block, and never let a message of one generation reach the owner of
 * another. */
#include "supervisor/child/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/system/process.h"
#include "supervisor/system/reaper.h"

#define QUEUE_MAX             16384 /* messages; a thousand channels' requests to a slow archive fit */
#define MESSAGES_PER_DISPATCH 8     /* then the event loop looks after the others */
#define RETRY_NS              (5 * NS_PER_MS)
#define END_LOOK_NS           (200 * NS_PER_MS) /* at one that has hung up */
/* A child that says more than this is kept waiting, and nobody else: 12,800 messages a second, of
 * which the archive of a thousand channels has the most, and no worker a hundredth. */
#define DISPATCHES_MAX       16
#define DISPATCHES_WITHIN_US 10000

struct queued_message {
    struct queued_message *next;
    enum message_type type;
    uint32_t fd_count;
    size_t payload_size;
    uint64_t generation;
    int *fds;
    uint8_t payload[];
};

const char *child_describe(const struct child *child)
{
    static char text[64];
    int length = snprintf(text, sizeof text, "%s %d", child->owner.role, (int)child->pid);
    if (child->generation)
        snprintf(text + length, sizeof text - (size_t)length, " (generation %llu)",
                 (unsigned long long)child->generation);
    return text;
}

/* The same, as the beginning of a log line: behind the channel that it is about. */
static const char *begin_line(const struct child *child)
{
    static char text[CHANNEL_NAME_SIZE + 96];
    if (!child->owner.channel)
        return child_describe(child);
    snprintf(text, sizeof text, "channel %s: %s", child->owner.channel, child_describe(child));
    return text;
}

/* ---- messages ---- */

static void queued_free(struct queued_message *message)
{
    if (message->fds)
        fd_close_all(message->fds, message->fd_count);
    free(message->fds);
    free(message);
}

static int queue_push(struct child *child, enum message_type type, const void *payload,
                      size_t payload_size, const int *fds, uint32_t fd_count)
{
    if (child->queue_length >= QUEUE_MAX)
        return -ENOBUFS;
    struct queued_message *message = malloc(sizeof *message + payload_size);
    if (!message)
        return -ENOMEM;
    *message = (struct queued_message){
        .type = type, .payload_size = payload_size, .generation = child->generation};
    if (payload_size > 0)
        memcpy(message->payload, payload, payload_size);
    if (fd_count > 0) {
        message->fds = calloc(fd_count, sizeof *message->fds);
        if (!message->fds) {
            queued_free(message);
            return -ENOMEM;
        }
        for (; message->fd_count < fd_count; message->fd_count++) {
            int copy = fcntl(fds[message->fd_count], F_DUPFD_CLOEXEC, 4);
            if (copy < 0) {
                int error = errno;
                queued_free(message);
                return -error;
            }
            message->fds[message->fd_count] = copy;
        }
    }
    *child->queue_tail = message;
    child->queue_tail = &message->next;
    child->queue_length++;
    return 0;
}

/* ETOOMANYREFS: too many descriptors are under way in all sockets together; they drain as children
 * read. */
static bool must_wait(int error)
{
    return error == -EAGAIN || error == -ETOOMANYREFS || error == -ENOBUFS;
}

static void queue_flush(struct child *child);

static int on_retry(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    queue_flush(userdata);
    return 0;
}

/* A full socket says when it has room. Descriptors under way and the kernel's memory say nothing:
 * the socket is writable all the time, and asking it would turn the event loop in circles. */
static void wait_for_room(struct child *child, int error)
{
    if (!child->socket_source)
        return;
    bool timed = error != -EAGAIN &&
                 timer_arm(&child->retry, sd_event_source_get_event(child->socket_source), RETRY_NS,
                           on_retry, child) >= 0;
    sd_event_source_set_io_events(child->socket_source, EPOLLIN | (timed ? 0 : EPOLLOUT));
}

static void queue_flush(struct child *child)
{
    while (child->queue) {
        struct queued_message *message = child->queue;
        int error =
            message_send(child->socket, message->type, message->generation, message->payload,
                         message->payload_size, message->fds, message->fd_count);
        if (must_wait(error)) {
            wait_for_room(child, error);
            return;
        }
        if (error < 0 && error != -EPIPE && error != -ECONNRESET)
            log_warning("%s: can't send %s: %s", begin_line(child), message_name(message->type),
                        strerror(-error));
        child->queue = message->next;
        child->queue_length--;
        queued_free(message);
    }
    child->queue_tail = &child->queue;
    if (child->socket_source)
        sd_event_source_set_io_events(child->socket_source, EPOLLIN);
}

int child_send(struct child *child, enum message_type type, const void *payload,
               size_t payload_size, const int *fds, uint32_t fd_count)
{
    if (child->socket < 0 || child->socket_closed.ns)
        return -EPIPE;
    if (child->queue)
        return queue_push(child, type, payload, payload_size, fds, fd_count);
    int error =
        message_send(child->socket, type, child->generation, payload, payload_size, fds, fd_count);
    if (!must_wait(error))
        return error;
    int pushed = queue_push(child, type, payload, payload_size, fds, fd_count);
    if (pushed == 0)
        wait_for_room(child, error);
    return pushed;
}

static void end_with(struct child *child, const siginfo_t *end)
{
    reaper_unwatch(&child->exit_source); /* sd-event reaps after its handler */
    child->owner.ended(child, end);
    child_free(child);
}

/* Whoever sits before a debugger may do so for hours. What remains is nobody's then. */
static int on_end_look(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct child *child = userdata;
    siginfo_t end;
    (void)time_us;
    bool withheld = process_end_is_withheld(child->pid, &end);
    if (withheld && child->end_withheld) {
        log_notice("%s is dead, but whoever traces it has not let go of it; it is not waited for",
                   begin_line(child));
        end_with(child, &end);
        return 0;
    }
    child->end_withheld = withheld;
    return timer_arm(&child->retry, sd_event_source_get_event(source), END_LOOK_NS, on_end_look,
                     child);
}

static void stop_listening(struct child *child)
{
    sd_event *event = child->exit_source ? sd_event_source_get_event(child->exit_source) : NULL;
    timer_disarm(&child->retry);
    child->socket_source = sd_event_source_disable_unref(child->socket_source);
    if (!child->socket_closed.ns)
        child->socket_closed = monotonic_now();
    if (event)
        timer_arm(&child->retry, event, END_LOOK_NS, on_end_look, child);
}

void child_violated(struct child *child, const char *what)
{
    log_error("%s broke the protocol: %s; killing it", begin_line(child), what);
    stop_listening(child);
    child_kill(child, SIGKILL);
}

/* Read what is there, at most `most` messages. */
static void receive(struct child *child, int most)
{
    static struct message
        message; /* large; there is one thread, and no handler below comes back here */

    for (int i = 0; i < most && child->socket_source; i++) {
        const char *what = "";
        int result = message_receive(child->socket, TO_PARENT, &message, &what);
        if (result == -EAGAIN)
            return;
        if (result == -ECONNRESET) /* it left without having read everything; what it said before
                                      comes next */
            continue;
        if (result == -EBADMSG) {
            child_violated(child, what);
            return;
        }
        if (result <= 0) {
            stop_listening(child); /* its end follows; its owner ends one that stays silent */
            return;
        }
        if (message.header.generation != child->generation)
            log_debug("%s: dropped %s of generation %llu", begin_line(child),
                      message_name(message.header.type),
                      (unsigned long long)message.header.generation);
        else
            child->owner.message(child, &message);
        message_release(&message);
    }
}

static int on_socket(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct child *child = userdata;
    (void)source;
    (void)fd;
    if (events & EPOLLOUT)
        queue_flush(child);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(child, MESSAGES_PER_DISPATCH);
    return 0;
}

void child_listen(struct child *child)
{
    receive(child, MESSAGES_PER_DISPATCH);
}

static unsigned exec_failures;

unsigned child_exec_failures(void)
{
    return exec_failures;
}

static int on_exit_seen(sd_event_source *source, const siginfo_t *end, void *userdata)
{
    struct child *child = userdata;
    (void)source;
    if (process_exec_error(end))
        exec_failures++;
    /* What it said before it died is still in the socket, and counts: a BYE, a SEGMENT_DONE. */
    receive(child, 100000);
    end_with(child, end);
    return 0;
}

/* ---- processes ---- */

static int spawn_worker(const char *path, int socket, pid_t *ret_pid)
{
    char name[] = "holdfast-worker";
    char *arguments[] = {name, NULL};
    const struct process_fd fds[] = {{socket, MESSAGE_FD}};
    char **environment = process_child_environment();
    if (!environment)
        return -ENOMEM;
    struct process_plan plan = {.path = path,
                                .arguments = arguments,
                                .environment = environment,
                                .fds = fds,
                                .fd_count = 1};
    int error = process_spawn(&plan, ret_pid);
    free(environment);
    return error;
}

int child_spawn(sd_event *event, const char *path, const struct child_owner *owner,
                struct child **ret)
{
    int pair[2] = {-1, -1};
    struct child *child = calloc(1, sizeof *child);
    if (!child)
        return -ENOMEM;
    child->owner = *owner;
    child->socket = -1;
    child->queue_tail = &child->queue;

    int error = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
    child->socket = pair[0];
    if (!error)
        error = fd_set_nonblocking(child->socket);
    if (!error)
        error = spawn_worker(path, pair[1], &child->pid);
    fd_close(&pair[1]);
    if (!error) {
        child->spawned = monotonic_now();
        error = reaper_watch(event, &child->exit_source, child->pid, on_exit_seen, child);
        if (error < 0) { /* nobody would know of its end */
            kill(child->pid, SIGKILL);
            child->pid = 0;
        }
    }
    if (error >= 0)
        error =
            sd_event_add_io(event, &child->socket_source, child->socket, EPOLLIN, on_socket, child);
    if (error >= 0)
        error = sd_event_source_set_ratelimit(child->socket_source, DISPATCHES_WITHIN_US,
                                              DISPATCHES_MAX);
    if (error < 0) {
        child_free(child);
        return error;
    }
    *ret = child;
    return 0;
}

void child_kill(struct child *child, int signal)
{
    if (child->exit_source)
        sd_event_source_send_child_signal(child->exit_source, signal, NULL, 0);
}

void child_free(struct child *child)
{
    if (!child)
        return;
    child_kill(child, SIGKILL); /* it may take its time to end: then it is nobody's */
    sd_event_source_disable_unref(child->socket_source);
    reaper_unwatch(&child->exit_source);
    timer_disarm(&child->retry);
    while (child->queue) {
        struct queued_message *message = child->queue;
        child->queue = message->next;
        queued_free(message);
    }
    fd_close(&child->socket);
    free(child);
}
