/* SPDX-License-Identifier: MIT */
/* The read protocol over a stream socket: packets, one behind the other, header by header. */
#ifndef HOLDFAST_COMMON_READ_STREAM_H
#define HOLDFAST_COMMON_READ_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "common/read_protocol.h"

/* Holds any request. */
#define READ_REQUEST_MAX 512

/* A packet that has come in part. One block for free(3). */
struct read_stream {
    uint32_t room; /* bytes of the longest packet that is taken */
    uint32_t held;
    uint8_t bytes[];
};

/* What goes before bytes of a file. */
struct read_frame {
    struct read_header header;
    struct read_object_bytes bytes;
};

/* NULL: out of memory. */
struct read_stream *read_stream_new(uint32_t room);

/* As read_packet_receive(); nothing behind the packet is taken from the socket, and it never
 * blocks. -EAGAIN: not all of it has come. -ECONNRESET: it ended in the midst of one. */
int read_stream_receive(int socket, struct read_stream *stream, enum read_direction direction,
                        struct read_packet *ret, const char **ret_what);

/* Send a packet from its byte *done on, which is moved on. 0: all of it is on its way; -EAGAIN: the
 * rest must wait; or another -errno. Never blocks, never raises SIGPIPE. */
int read_stream_send(int socket, const struct read_header *header, const void *payload,
                     size_t *done);

#endif
