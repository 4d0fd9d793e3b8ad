/* SPDX-License-Identifier: MIT */
/* Asks the gate, and waits for its answer: for two seconds at most, whatever comes. Called by
 * whatever a handle does that is connected to a daemon. */
#include "common/client/live_request.h"

#include <errno.h>
#include <poll.h>

#include "common/client/gate_link.h"
#include "common/fd.h"

#define CONNECT_AGAIN_NS (5 * NS_PER_MS)

void live_disconnect(struct live *live)
{
    fd_close(&live->socket);
}

int live_receive(struct live *live, enum read_type type, monotonic deadline)
{
    const char *what;
    for (;;) {
        int result = gate_link_wait(live->socket, deadline);
        if (result < 0)
            return result;
        result = read_packet_receive(live->socket, TO_READER, &live->packet, &what);
        if (result == -EAGAIN)
            continue;
        if (result <= 0)
            return result == 0 || result == -EPIPE ? -ECONNRESET : result;
        fd_close(&live->fd);
        live->fd = fd_take(&live->packet.fd);
        read_packet_release(&live->packet); /* nothing that is asked here brings more than one */
        if (live->packet.header.request == 0 && live->packet.header.type == READ_REFUSED)
            return gate_link_is_over(live->packet.refused->error) /* the connection as a whole */
                       ? -ECONNRESET
                       : gate_link_error(live->packet.refused->error);
        if (live->packet.header.request != live->last_request) { /* to one that was given up */
            fd_close(&live->fd); /* whoever fills a pipe that nobody empties answers nothing else */
            continue;
        }
        if (live->packet.header.type == READ_REFUSED)
            return live->packet.refused->error == ESHUTDOWN /* its end follows */
                       ? -ECONNRESET
                       : gate_link_error(live->packet.refused->error);
        return live->packet.header.type == type ? 0 : -EPROTO;
    }
}

static int next_request(struct live *live)
{
    return (int)(live->last_request = live->last_request % INT32_MAX + 1);
}

/* *ret_again: it may be otherwise in a moment. */
static int connect_once(struct live *live, monotonic deadline, bool *ret_again)
{
    live->socket = gate_link_connect(&live->address);
    if (live->socket < 0) {
        int error = live->socket;
        live->socket = -1;
        *ret_again = error == -EAGAIN;
        return *ret_again ? -ETIMEDOUT : error;
    }
    int result = gate_link_hello(live->socket, (uint32_t)next_request(live));
    if (result == 0 || result == -EPIPE)
        result = live_receive(live, READ_WELCOME, deadline);
    /* It may have said why before it ended: behind the error that it left a request unread. */
    if (result == -ECONNRESET)
        result = live_receive(live, READ_WELCOME, deadline);
    *ret_again = result == -EBUSY;
    if (result < 0)
        live_disconnect(live);
    return result;
}

int live_connect(struct live *live, monotonic deadline)
{
    for (bool again, busy = false;;) {
        int result = connect_once(live, deadline, &again);
        busy |= result == -EBUSY;
        if (!again || monotonic_now().ns >= deadline.ns)
            return busy && result == -ETIMEDOUT ? -EBUSY : result;
        poll(NULL, 0, (int)(CONNECT_AGAIN_NS / NS_PER_MS));
    }
}

static int ask_once(struct live *live, const struct live_request *request, monotonic deadline)
{
    int result = live->socket < 0 ? live_connect(live, deadline) : 0;
    if (result == 0)
        result = read_packet_send(live->socket, request->type, (uint32_t)next_request(live),
                                  request->payload, request->size, -1);
    if (result == 0)
        result = live_receive(live, request->answer, deadline);
    else if (result == -EAGAIN)
        result = -ETIMEDOUT; /* it takes nothing any more */
    if (result == -EPIPE || result == -EBADMSG || result == -EPROTO)
        result = result == -EPIPE ? -ECONNRESET : -EPROTO;
    if (result == -ECONNRESET || result == -EPROTO)
        live_disconnect(live);
    return result;
}

int live_ask(struct live *live, const struct live_request *request)
{
    monotonic deadline = monotonic_add(monotonic_now(), GATE_PATIENCE_NS);
    int result = ask_once(live, request, deadline);
    return result == -ECONNRESET ? ask_once(live, request, deadline) : result;
}
