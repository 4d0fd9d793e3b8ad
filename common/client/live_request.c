/* SPDX-License-Identifier: MIT */
/* Asks the gate, and waits for its answer: for two seconds at most, whatever comes. Called by
 * whatever a handle does that is connected to a daemon. */
#include "common/client/live_request.h"

#include <errno.h>
#include <poll.h>

#include "common/client/gate_link.h"
#include "common/client/log_bytes.h"
#include "common/fd.h"

#define CONNECT_AGAIN_NS (5 * NS_PER_MS)

void live_disconnect(struct live *live)
{
    fd_close(&live->socket);
    if (live->stream)
        live->stream->held = 0;
}

/* 1, 0, -EAGAIN, or another -errno: as read_packet_receive(). */
static int receive_packet(struct live *live)
{
    const char *what;
    return live->stream
               ? read_stream_receive(live->socket, live->stream, TO_READER, &live->packet, &what)
               : read_packet_receive(live->socket, TO_READER, &live->packet, &what);
}

/* To one that was given up. Bytes that follow such a packet could not be told from others. */
static bool is_of_another(const struct live *live)
{
    return live->packet.header.request != live->last_request &&
           live->packet.header.type != READ_OBJECT_BYTES;
}

/* The next one that belongs to the last request, whatever its type. */
static int receive_any(struct live *live, monotonic deadline)
{
    for (;;) {
        int result = gate_link_wait(live->socket, deadline);
        if (result < 0)
            return result;
        result = receive_packet(live);
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
        if (is_of_another(live)) {
            fd_close(&live->fd); /* whoever fills a pipe that nobody empties answers nothing else */
            continue;
        }
        if (live->packet.header.type != READ_REFUSED)
            return 0;
        return live->packet.refused->error == ESHUTDOWN /* its end follows */
                   ? -ECONNRESET
                   : gate_link_error(live->packet.refused->error);
    }
}

int live_receive(struct live *live, enum read_type type, monotonic deadline)
{
    int result = receive_any(live, deadline);
    return result < 0 || live->packet.header.type == type ? result : -EPROTO;
}

int live_receive_bytes(struct live *live, enum read_type end, int to, uint64_t *ret)
{
    *ret = 0;
    for (;;) {
        int result = receive_any(live, monotonic_add(monotonic_now(), GATE_PATIENCE_NS));
        if (result < 0 || live->packet.header.type == end)
            return result;
        const uint64_t length = live->packet.object_bytes->length;
        if (live->packet.header.type != READ_OBJECT_BYTES || length == 0 ||
            length > READ_BYTES_MAX || live->packet.header.request != live->last_request)
            return -EPROTO;
        uint64_t moved;
        result = log_bytes_take(live->socket, to, length, GATE_PATIENCE_NS, &moved);
        *ret += moved;
        if (result < 0)
            return result;
    }
}

static int next_request(struct live *live)
{
    return (int)(live->last_request = live->last_request % INT32_MAX + 1);
}

/* *ret_again: it may be otherwise in a moment. */
static int connect_once(struct live *live, monotonic deadline, bool *ret_again)
{
    live->socket = live->stream ? gate_link_connect_remote(&live->remote, deadline)
                                : gate_link_connect(&live->address);
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

static int send_request(struct live *live, const struct live_request *request)
{
    const struct read_header header = {.magic = READ_MAGIC,
                                       .version = READ_VERSION,
                                       .type = (uint16_t)request->type,
                                       .request = (uint32_t)next_request(live),
                                       .size = (uint32_t)request->size};
    size_t done = 0;
    if (!live->stream)
        return read_packet_send(live->socket, request->type, header.request, request->payload,
                                request->size, -1);
    int result = read_stream_send(live->socket, &header, request->payload, &done);
    if (result == -EAGAIN)
        live_disconnect(live); /* the next one would be taken for the rest of this one */
    return result;
}

static int ask_once(struct live *live, const struct live_request *request, monotonic deadline)
{
    int result = live->socket < 0 ? live_connect(live, deadline) : 0;
    if (result == 0)
        result = send_request(live, request);
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
