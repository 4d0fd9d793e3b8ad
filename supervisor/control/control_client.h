/* SPDX-License-Identifier: MIT */
/* One client of the control socket, and what all clients share. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_CLIENT_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "common/control_protocol.h"
#include "common/monotonic.h"
#include "supervisor/control/control_socket.h"
#include "supervisor/policy/receive_rate.h"

/* Behind everything else in the loop: a worker's death is served before any operator. */
#define CONTROL_PRIORITY    (SD_EVENT_PRIORITY_NORMAL + 10)

#define CONTROL_CLIENTS_MAX 512
#define CONTROL_STALL_NS    (10 * NS_PER_S) /* without reading an answer that waits: dropped */
#define CONTROL_LINGER_NS   (1 * NS_PER_S) /* for a client that is still sending what was refused */
/* Bytes of answers waiting: no further request is taken */
#define CONTROL_QUEUE_HIGH (64u * 1024)
#define CONTROL_QUEUE_MAX  (32u * 1024 * 1024) /* of one client */
/* Of all: the one that stalled longest is dropped */
#define CONTROL_QUEUED_TOTAL_MAX (64u * 1024 * 1024)
#define CONTROL_TURN_REQUESTS    16 /* requests of one client per turn of the loop ... */
#define CONTROL_TURN_NS          (2 * NS_PER_MS) /* ... and time, whichever ends first */

struct control_client;

struct control {
    struct supervisor *supervisor;
    struct control_socket socket;
    sd_event_source *accept_source;
    sd_event_source *accept_pause; /* fds are short: accepting waits */
    struct control_client *clients;
    size_t client_count;
    size_t queued_total;
    bool shortage_logged;
    /* how fast each of supervisor->channels receives, in their order */
    struct receive_rate *rates;
    size_t rate_count;
    sd_event_source *rate_timer;
};

/* Take over a connected, nonblocking socket. 0 or -errno; the fd is closed on failure. */
int control_client_new(struct control *control, int fd);
void control_client_free(struct control_client *client);

/* NULL while nothing is known of the channel with this index. Accepts a NULL control. */
const struct receive_rate *control_rate(const struct control *control, size_t index);

#endif
