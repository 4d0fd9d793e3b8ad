/* SPDX-License-Identifier: MIT */
/* One client of the control socket, and what all clients share. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_CLIENT_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "common/control_protocol.h"
#include "common/monotonic.h"
#include "supervisor/control/control_reserve.h"

/* Behind everything else in the loop: a worker's death is served before any operator. */
#define CONTROL_PRIORITY    (SD_EVENT_PRIORITY_NORMAL + 10)

#define CONTROL_CLIENTS_MAX 512
#define CONTROL_IDLE_NS     (10 * NS_PER_S) /* without a request: its place may be given away */
#define CONTROL_STALL_NS    (10 * NS_PER_S) /* without reading an answer that waits: dropped */
#define CONTROL_LINGER_NS   (1 * NS_PER_S) /* for a client that is still sending what was refused */
/* Bytes of answers waiting: no further request is taken */
#define CONTROL_QUEUE_HIGH (64u * 1024)
#define CONTROL_QUEUE_MAX  CONTROL_ANSWER_MAX /* of one client */
/* Of all: the one that stalled longest is dropped */
#define CONTROL_QUEUED_TOTAL_MAX (64u * 1024 * 1024)
#define CONTROL_TURN_REQUESTS    16 /* requests of one client per turn of the loop ... */
#define CONTROL_TURN_NS          (2 * NS_PER_MS) /* ... and time, whichever ends first */

struct control_client;

/* What a connection's request is answered with. Returns a new reference: the result, or NULL with
 * *ret_code (JSON-RPC error code) and *ret_error (new reference: the error's message as a JSON
 * string), or NULL for both with CONTROL_LATER. peer is from SO_PEERCRED. */
typedef json_t *(*control_serve)(void *data, const struct ucred *peer, const char *method,
                                 const json_t *params, int *ret_code, json_t **ret_error);

/* *ret_code of what is answered later: the connection takes no further request before. */
#define CONTROL_LATER 1

/* What all clients share. */
struct control_clients {
    sd_event *event;
    control_serve serve;
    void *data; /* serve's */
    struct control_client *first;
    size_t count;
    size_t queued_total;
    struct control_reserve reserve;
};

/* Take over a connected, nonblocking socket. 0 or -errno; the fd is closed on failure. */
int control_client_new(struct control_clients *clients, int fd);
void control_client_free(struct control_client *client);

/* There are as many as there may be: let go of the one that has been idle for longest, if any has
 * been for CONTROL_IDLE_NS. Not in the middle of a client's turn. */
bool control_clients_evict(struct control_clients *clients);

/* Everybody whose request is answered later: it is accepted, or refused for this reason. */
void control_clients_answer_waiting(struct control_clients *clients, const char *why);

#endif
