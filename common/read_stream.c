/* SPDX-License-Identifier: MIT */
/* Cuts a stream into packets. Called by the gate for readers over TCP, and by the library for such
 * a gate. A length is believed only as far as there is room for it, and what is no header is told
 * at its first 16 bytes. */
#include "common/read_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

_Static_assert(sizeof(struct read_header) + sizeof(struct read_object) <= READ_REQUEST_MAX &&
                   sizeof(struct read_header) + sizeof(struct read_list_positions) <=
                       READ_REQUEST_MAX,
               "every request fits");

struct read_stream *read_stream_new(uint32_t room)
{
    struct read_stream *stream = malloc(sizeof *stream + room);
    if (stream)
        *stream = (struct read_stream){.room = room};
    return stream;
}

/* Bytes that belong to the packet, as far as that is known; 0: what came is no header. */
static size_t expected(const struct read_stream *stream)
{
    struct read_header header;
    if (stream->held < sizeof header)
        return sizeof header;
    memcpy(&header, stream->bytes, sizeof header);
    if (header.magic != READ_MAGIC || header.version != READ_VERSION ||
        header.size > stream->room - sizeof header)
        return 0;
    return sizeof header + header.size;
}

/* What is in memory is all that there will be of it. */
static int take(struct read_stream *stream, enum read_direction direction, struct read_packet *ret,
                const char **ret_what)
{
    memcpy(ret->bytes, stream->bytes, stream->held);
    const char *what = read_packet_check(ret, stream->held, direction);
    stream->held = 0;
    *ret_what = what ? what : "";
    return what ? -EBADMSG : 1;
}

int read_stream_receive(int socket, struct read_stream *stream, enum read_direction direction,
                        struct read_packet *ret, const char **ret_what)
{
    *ret_what = "";
    for (size_t i = 0; i < READ_FDS_MAX; i++)
        ret->fds[i] = -1;
    ret->fd_count = 0;
    for (;;) {
        const size_t size = expected(stream);
        if (size == 0 || (stream->held == size && size >= sizeof ret->header))
            return take(stream, direction, ret, ret_what);
        ssize_t length =
            recv(socket, stream->bytes + stream->held, size - stream->held, MSG_DONTWAIT);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return -errno;
        if (length == 0)
            return stream->held > 0 ? -ECONNRESET : 0;
        stream->held += (uint32_t)length;
    }
}

int read_stream_send(int socket, const struct read_header *header, const void *payload,
                     size_t *done)
{
    while (*done < sizeof *header + header->size) {
        const size_t of_header = *done < sizeof *header ? *done : sizeof *header;
        const size_t of_payload = *done - of_header;
        const struct iovec parts[] = {{(uint8_t *)header + of_header, sizeof *header - of_header},
                                      {(uint8_t *)payload + of_payload, header->size - of_payload}};
        const struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = 2};
        ssize_t length = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (length < 0 && errno != EINTR)
            return -errno;
        if (length > 0)
            *done += (size_t)length;
    }
    return 0;
}
