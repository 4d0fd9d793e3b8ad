/* SPDX-License-Identifier: MIT */
/* The control socket: accepts clients (control_client.c) and keeps the receive rates that status
 * shows. Made and closed by main. It never waits for anybody: too many clients are refused, and
 * when descriptors are short it pauses instead of spinning. */
#include "supervisor/control/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "supervisor/control/control_client.h"
#include "supervisor/supervisor.h"

#define ACCEPTS_PER_TURN 16
#define ACCEPT_PAUSE_US  (250 * 1000ull)
#define RATE_EVERY_US    (1000 * 1000ull)

/* ---- accepting ---- */

static void refuse(int fd)
{
    char why[CONTROL_WHY_SIZE];
    size_t length = 0;
    snprintf(why, sizeof why, "%d clients are connected already: close one and try again",
             CONTROL_CLIENTS_MAX);
    char *line = control_print_error(NULL, CONTROL_ERROR_BUSY, json_string(why), &length);
    if (line && send(fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("control: a client that was refused did not wait for the reason: %s",
                  strerror(errno));
    free(line);
    fd_close(&fd);
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

static int on_accept(sd_event_source *source, int listening, uint32_t events, void *userdata)
{
    struct control *control = userdata;
    (void)source;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno == EAGAIN)
            break;
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0) {
            pause_accepting(control, errno);
            break;
        }
        if (control->client_count >= CONTROL_CLIENTS_MAX) {
            refuse(fd);
            continue;
        }
        int error = control_client_new(control, fd);
        if (error < 0) {
            pause_accepting(control, -error);
            break;
        }
        control->shortage_logged = false;
    }
    return 0;
}

/* ---- rates ---- */

static int on_rate_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct control *control = userdata;
    struct supervisor *supervisor = control->supervisor;
    (void)usec;
    if (control->rate_count != supervisor->channel_count) {
        free(control->rates);
        control->rates = calloc(supervisor->channel_count, sizeof *control->rates);
        control->rate_count = control->rates ? supervisor->channel_count : 0;
    }
    monotonic now = monotonic_now();
    for (size_t i = 0; i < control->rate_count; i++) {
        struct counters counters;
        uint64_t pending;
        if (channel_read_counters(supervisor->channels[i], &counters, &pending))
            receive_rate_sample(&control->rates[i], &counters, now);
    }
    sd_event_source_set_time_relative(source, RATE_EVERY_US);
    sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
    return 0;
}

const struct receive_rate *control_rate(const struct control *control, size_t index)
{
    if (!control || index >= control->rate_count || !control->rates[index].known)
        return NULL;
    return &control->rates[index];
}

/* ---- life ---- */

static int watch(struct control *control)
{
    sd_event *event = control->supervisor->event;
    int error = sd_event_add_io(event, &control->accept_source, control->socket.fd, EPOLLIN,
                                on_accept, control);
    if (error >= 0)
        error = sd_event_add_time_relative(event, &control->accept_pause, CLOCK_MONOTONIC, 0, 0,
                                           on_pause_over, control);
    if (error >= 0)
        error = sd_event_source_set_enabled(control->accept_pause, SD_EVENT_OFF);
    if (error >= 0)
        error = sd_event_add_time_relative(event, &control->rate_timer, CLOCK_MONOTONIC,
                                           RATE_EVERY_US, 0, on_rate_timer, control);
    if (error < 0)
        return error;
    sd_event_source_set_priority(control->accept_source, CONTROL_PRIORITY);
    sd_event_source_set_priority(control->accept_pause, CONTROL_PRIORITY);
    sd_event_source_set_priority(control->rate_timer, CONTROL_PRIORITY);
    return 0;
}

int control_open(struct supervisor *supervisor, struct control **ret, char *why, size_t why_size)
{
    struct control *control = calloc(1, sizeof *control);
    if (!control) {
        snprintf(why, why_size, "%s", strerror(ENOMEM));
        return -ENOMEM;
    }
    control->supervisor = supervisor;
    int error = control_socket_open(supervisor->settings, &control->socket, why, why_size);
    if (error == 0) {
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
    control_socket_close(&control->socket);
    while (control->clients)
        control_client_free(control->clients);
    sd_event_source_disable_unref(control->rate_timer);
    free(control->rates);
    free(control);
}
