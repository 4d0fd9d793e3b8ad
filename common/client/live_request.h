/* SPDX-License-Identifier: MIT */
/* A handle that is connected to a daemon, and one request of it. */
#ifndef HOLDFAST_COMMON_CLIENT_LIVE_REQUEST_H
#define HOLDFAST_COMMON_CLIENT_LIVE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#include "common/client/client.h"
#include "common/client/gate_link.h"
#include "common/monotonic.h"
#include "common/read_protocol.h"
#include "common/read_stream.h"

struct live {
    struct hf base;
    struct sockaddr_un address;
    struct gate_remote remote;  /* over TCP, instead; */
    struct read_stream *stream; /* and what has come in part; NULL: not over TCP */
    int socket;                 /* -1: ended, to be made again */
    uint32_t last_request;
    struct read_packet packet; /* the last answer, */
    int fd;                    /* and what it brought; -1 = nothing */
};

struct live_request {
    enum read_type type, answer;
    const void *payload;
    size_t size;
};

/* Also while more programs connect than the gate takes in just now, or than there may be. */
int live_connect(struct live *live, monotonic deadline);
void live_disconnect(struct live *live);

/* Until the answer to the last request is in live->packet. 0; -ECONNRESET: the connection has
 * ended; or -errno. Those to earlier ones, which were given up, are passed over. */
int live_receive(struct live *live, enum read_type type, monotonic deadline);

/* Over TCP, behind the answer to the last request: bytes to this descriptor, until the packet that
 * tells their end is in live->packet. *ret: how many, also where it fails. 0 or -errno. */
int live_receive_bytes(struct live *live, enum read_type end, int to, uint64_t *ret);

/* Connects first if need be, and once more if the connection has ended meanwhile: the process that
 * serves readers may have been replaced. Until the answer is in live->packet. 0 or -errno. */
int live_ask(struct live *live, const struct live_request *request);

#endif
