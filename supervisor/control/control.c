/* SPDX-License-Identifier: MIT */
/* The control socket: accepts clients (control_client.c), which have their requests served by
 * whoever opened it. Made and closed by the daemon. It never waits for anybody: too many clients
 * are refused, and when descriptors are short it takes those kept for clients (control_reserve.c),
 * or pauses instead of spinning. */
#include "supervisor/control/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/control_protocol.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/control/control_reserve.h"
#include "supervisor/system/listening.h"

#define LISTEN_BACKLOG   256
#define ACCEPTS_PER_TURN 16
#define ACCEPT_PAUSE_US  (250 * 1000ull)
/* Descriptors that clients leave to those who must not wait for them: of a channel, a segment and
 * its worker's socket and pidfd; of all, the archive's and spares'. */
#define RESERVE_PER_CHANNEL 4
#define RESERVE             32

struct control {
    struct listening socket;
    const struct settings *settings;
    sd_event_source *accept_source;
    sd_event_source *accept_pause; /* fds are short: accepting waits */
    struct control_clients clients;
    size_t reserve;
    bool shortage_logged;
};

/* ---- accepting ---- */

static void refuse(struct control *control, int fd)
{
    char why[CONTROL_WHY_SIZE];
    size_t length = 0;
    snprintf(why, sizeof why,
             "%zu clients are connected and busy already, and there are no more descriptors for "
             "clients (LimitNOFILE=): close one and try again",
             control->clients.count);
    char *line = control_print_error(NULL, CONTROL_ERROR_BUSY, json_string(why), &length);
    if (line && send(fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("control: a client that was refused did not wait for the reason: %s",
                  strerror(errno));
    free(line);
    fd_close(&fd);
    control_reserve_fill(&control->clients.reserve);
}

/* Out of descriptors or memory the listening socket stays readable: without a pause the loop would
 * spin. */
static void pause_accepting(struct control *control, int error)
{
    if (!control->shortage_logged)
        log_warning("control: cannot accept a client: %s. Trying again every %llu ms",
                    strerror(error), ACCEPT_PAUSE_US / 1000);
    control->shortage_logged = true;
    sd_event_source_set_enabled(control->accept_source, SD_EVENT_OFF);
    sd_event_source_set_time_relative(control->accept_pause, ACCEPT_PAUSE_US);
    sd_event_source_set_enabled(control->accept_pause, SD_EVENT_ONESHOT);
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct control *control = userdata;
    (void)source;
    (void)usec;
    sd_event_source_set_enabled(control->accept_source, SD_EVENT_ON);
    return 0;
}

/* The kernel gives the lowest number that is free. */
static bool is_short(const struct control *control, int fd)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return false;
    rlim_t reserve = control->reserve < limit.rlim_cur / 8 ? control->reserve : limit.rlim_cur / 8;
    return (rlim_t)fd + reserve >= limit.rlim_cur;
}

static bool has_no_place(struct control *control, int fd)
{
    bool has_reserve = control_reserve_fill(&control->clients.reserve);
    return control->clients.count >= CONTROL_CLIENTS_MAX ||
           (control->clients.count >= CONTROL_CLIENTS_ALWAYS &&
            (!has_reserve || is_short(control, fd)));
}

static int on_accept(sd_event_source *source, int listening, uint32_t events, void *userdata)
{
    struct control *control = userdata;
    (void)source;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = control_reserve_accept(&control->clients.reserve, listening);
        if (fd < 0 && errno == EAGAIN)
            break;
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && errno == EMFILE && control_clients_evict(&control->clients))
            continue;
        if (fd < 0) {
            pause_accepting(control, errno);
            break;
        }
        if (has_no_place(control, fd) && !control_clients_evict(&control->clients)) {
            refuse(control, fd);
            continue;
        }
        int error = control_client_new(&control->clients, fd);
        if (error < 0) {
            pause_accepting(control, -error);
            break;
        }
        control->shortage_logged = false;
    }
    return 0;
}

void control_answer_upgrade(struct control *control, const char *why)
{
    if (control)
        control_clients_answer_waiting(&control->clients, why);
}

/* ---- life ---- */

static int watch(struct control *control)
{
    sd_event *event = control->clients.event;
    int error = sd_event_add_io(event, &control->accept_source, control->socket.fd, EPOLLIN,
                                on_accept, control);
    if (error >= 0)
        error = sd_event_add_time_relative(event, &control->accept_pause, CLOCK_MONOTONIC, 0, 0,
                                           on_pause_over, control);
    if (error >= 0)
        error = sd_event_source_set_enabled(control->accept_pause, SD_EVENT_OFF);
    if (error < 0)
        return error;
    sd_event_source_set_priority(control->accept_source, CONTROL_PRIORITY);
    sd_event_source_set_priority(control->accept_pause, CONTROL_PRIORITY);
    return 0;
}

struct listening_plan control_listening_plan(const struct settings *settings)
{
    _Static_assert(sizeof settings->control_socket == LISTENING_PATH_SIZE, "the path fits");
    return (struct listening_plan){.section = "control",
                                   .type = SOCK_STREAM,
                                   .backlog = LISTEN_BACKLOG,
                                   .path = settings->control_socket,
                                   .mode = settings->control_mode,
                                   .group = settings->control_group,
                                   .group_variable = CONTROL_GROUP_VARIABLE,
                                   .kept_variable = CONTROL_KEPT_VARIABLE};
}

static int open_socket(const struct control_setup *setup, struct listening *ret, char *why,
                       size_t why_size)
{
    const struct listening_plan plan = control_listening_plan(setup->settings);
    int left = setup->left ? fd_take(setup->left) : -1;
    if (listening_take(left, &plan, ret))
        return 0;
    return listening_open(&plan, setup->patient, ret, why, why_size);
}

int control_open(const struct control_setup *setup, struct control **ret, char *why,
                 size_t why_size)
{
    struct control *control = calloc(1, sizeof *control);
    if (!control) {
        snprintf(why, why_size, "%s", strerror(ENOMEM));
        return -ENOMEM;
    }
    control->clients =
        (struct control_clients){.event = setup->event, .serve = setup->serve, .data = setup->data};
    control->settings = setup->settings;
    control_reserve_init(&control->clients.reserve);
    control->reserve = RESERVE + RESERVE_PER_CHANNEL * setup->settings->channel_count;
    int error = open_socket(setup, &control->socket, why, why_size);
    if (error == 0) {
        control_reserve_fill(&control->clients.reserve);
        error = watch(control);
        if (error < 0)
            snprintf(why, why_size, "cannot watch the control socket: %s", strerror(-error));
    }
    if (error < 0) {
        control_close(control);
        return error;
    }
    *ret = control;
    return 0;
}

void control_close(struct control *control)
{
    if (!control)
        return;
    /* The socket before the connections: who sees its connection end can wait for a new socket. */
    sd_event_source_disable_unref(control->accept_source);
    sd_event_source_disable_unref(control->accept_pause);
    listening_close(&control->socket);
    while (control->clients.first)
        control_client_free(control->clients.first);
    control_reserve_close(&control->clients.reserve);
    free(control);
}

int control_leave(struct control *control)
{
    int left = -1;
    if (control) {
        const struct listening_plan plan = control_listening_plan(control->settings);
        left = listening_leave(&control->socket, &plan);
    }
    control_close(control);
    return left;
}
