/* SPDX-License-Identifier: MIT */
/* The read protocol's table as code: what is sent has exactly the declared shape, and nothing else
 * is ever received. Called by the gate for every reader and by the library for the gate. Must never
 * leak a received descriptor. */
#include "common/read_protocol.h"

#include <errno.h>
#include <string.h>

#include "common/fd.h"
#include "common/fdpass.h"

struct packet_shape {
    const char *name;
    enum read_direction direction;
    uint32_t size;
    uint32_t fds_most;
};

static const struct packet_shape shapes[] = {
#define READ_PACKET(NAME, number, direction, payload, fds)                                         \
    [number] = {#NAME, direction, sizeof(struct read_##payload), fds},
#include "common/read_protocol.def"
#undef READ_PACKET
};

#define SHAPES_END (sizeof shapes / sizeof *shapes)

#define READ_PACKET(NAME, number, direction, payload, fds)                                         \
    _Static_assert((fds) <= READ_FDS_MAX, "they have room in struct read_packet");
#include "common/read_protocol.def"
#undef READ_PACKET

/* Of a list: what one entry takes; 0 for what is no list. */
static uint32_t entry_size(unsigned type)
{
    switch (type) {
    case READ_CHANNELS:
        return sizeof(struct read_channel);
    case READ_POSITION_LIST:
        return sizeof(struct read_position_entry);
    case READ_SEGMENT_LIST:
        return sizeof(struct read_segment_entry);
    case READ_READER_LIST:
        return sizeof(struct read_reader_entry);
    default:
        return 0;
    }
}

_Static_assert(sizeof(struct read_header) + sizeof(struct read_segments) +
                       READ_LIST_MAX * sizeof(struct read_segment_entry) <=
                   READ_PACKET_MAX,
               "the largest list fits");

const char *read_packet_name(unsigned type)
{
    return type < SHAPES_END && shapes[type].name ? shapes[type].name : "unknown";
}

int read_packet_send(int socket, enum read_type type, uint32_t request, const void *payload,
                     size_t size, int fd)
{
    const struct read_header about = {
        .type = (uint16_t)type, .request = request, .size = (uint32_t)size};
    return read_packet_send_fds(socket, &about, payload, &fd, fd >= 0 ? 1 : 0);
}

int read_packet_send_fds(int socket, const struct read_header *about, const void *payload,
                         const int *fds, uint32_t fd_count)
{
    struct read_header header = *about;
    header.magic = READ_MAGIC;
    header.version = READ_VERSION;
    const struct iovec parts[] = {{&header, sizeof header}, {(void *)payload, header.size}};
    return fdpass_send(socket, parts, 2, fds, fd_count);
}

/* ---- what was received ---- */

#define TERMINATE(text) ((text)[sizeof(text) - 1] = '\0')

static void terminate_entries(unsigned type, void *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (type == READ_CHANNELS) {
            TERMINATE(((struct read_channel *)entries)[i].name);
            TERMINATE(((struct read_channel *)entries)[i].listen);
        } else if (type == READ_POSITION_LIST) {
            TERMINATE(((struct read_position_entry *)entries)[i].channel);
            TERMINATE(((struct read_position_entry *)entries)[i].name);
        } else if (type == READ_SEGMENT_LIST) {
            TERMINATE(((struct read_segment_entry *)entries)[i].name);
        } else {
            TERMINATE(((struct read_reader_entry *)entries)[i].program);
            TERMINATE(((struct read_reader_entry *)entries)[i].channel);
        }
    }
}

/* Every text of a peer ends inside its field from here on. */
static void terminate_texts(unsigned type, void *payload)
{
    switch (type) {
    case READ_HELLO:
        TERMINATE(((struct read_hello *)payload)->program);
        break;
    case READ_REFUSED:
        TERMINATE(((struct read_refused *)payload)->reason);
        break;
    case READ_LIST:
        TERMINATE(((struct read_list *)payload)->after);
        break;
    case READ_ATTACH:
        TERMINATE(((struct read_attach *)payload)->channel);
        break;
    case READ_SEGMENT_FOUND:
        TERMINATE(((struct read_found *)payload)->name);
        break;
    case READ_CLAIM:
    case READ_SAVE:
    case READ_FORGET:
    case READ_POSITION:
        TERMINATE(((struct read_position *)payload)->channel);
        TERMINATE(((struct read_position *)payload)->name);
        break;
    case READ_POSITIONS:
        TERMINATE(((struct read_list_positions *)payload)->channel);
        TERMINATE(((struct read_list_positions *)payload)->after_channel);
        TERMINATE(((struct read_list_positions *)payload)->after);
        break;
    case READ_OBJECT:
        TERMINATE(((struct read_object *)payload)->channel);
        TERMINATE(((struct read_object *)payload)->name);
        break;
    case READ_OBJECT_LENT:
        TERMINATE(((struct read_object_lent *)payload)->about.name);
        break;
    case READ_RANGE:
        TERMINATE(((struct read_range *)payload)->channel);
        break;
    case READ_RANGE_LENT:
        TERMINATE(((struct read_range_lent *)payload)->about.name);
        break;
    case READ_PUBLISH:
        TERMINATE(((struct read_publish *)payload)->channel);
        break;
    case READ_SEGMENTS:
        TERMINATE(((struct read_list_segments *)payload)->channel);
        TERMINATE(((struct read_list_segments *)payload)->after);
        break;
    default:
        break;
    }
}

/* Of a list, how many entries its payload says it has. */
static uint32_t count_of(unsigned type, const void *payload)
{
    /* Every list begins with its count. */
    return entry_size(type) ? *(const uint32_t *)payload : 0;
}

/* NULL when the packet is exactly what its header and the table say. */
static const char *check_packet(struct read_packet *packet, size_t length,
                                enum read_direction direction, uint32_t fd_count)
{
    const struct read_header *header = &packet->header;
    if (length < sizeof *header)
        return "shorter than a header";
    if (header->magic != READ_MAGIC)
        return "wrong magic";
    if (header->version != READ_VERSION)
        return "another protocol version";
    if (header->type >= SHAPES_END || !shapes[header->type].name)
        return "unknown type";
    const struct packet_shape *shape = &shapes[header->type];
    if (shape->direction != direction)
        return "wrong direction";
    if (header->size != length - sizeof *header || header->size < shape->size)
        return "wrong size";
    uint8_t *payload = packet->bytes + sizeof *header;
    uint32_t count = count_of(header->type, payload);
    if (count > READ_LIST_MAX || header->size != shape->size + count * entry_size(header->type))
        return "wrong size";
    if (fd_count > shape->fds_most)
        return "file descriptors that nobody asked for";
    if (header->type == READ_PUBLISHED && fd_count != shape->fds_most)
        return "an outbox that is not whole";
    terminate_texts(header->type, payload);
    if (count > 0)
        terminate_entries(header->type, payload + shape->size, count);
    packet->payload = payload;
    packet->count = count;
    packet->entries = payload + shape->size;
    return NULL;
}

const char *read_packet_check(struct read_packet *packet, size_t length,
                              enum read_direction direction)
{
    packet->fd = -1;
    packet->header = (struct read_header){0};
    memcpy(&packet->header, packet->bytes,
           length < sizeof packet->header ? length : sizeof packet->header);
    return check_packet(packet, length, direction, 0);
}

#define FDS_READ 8 /* more than anybody may send: to be told from what fits */

int read_packet_receive(int socket, enum read_direction direction, struct read_packet *ret,
                        const char **ret_what)
{
    int fds[FDS_READ];
    uint32_t fd_count;
    for (int i = 0; i < READ_FDS_MAX; i++)
        ret->fds[i] = -1;
    ret->fd_count = 0;
    ret->header = (struct read_header){0};
    *ret_what = "";
    ssize_t length =
        fdpass_receive(socket, ret->bytes, sizeof ret->bytes, fds, FDS_READ, &fd_count);
    if (length == -EBADMSG)
        *ret_what = "packet or file descriptors truncated";
    if (length <= 0)
        return (int)length;
    if (fd_count == FDPASS_LOST) {
        *ret_what = "its file descriptor found no free number: " FD_SHORTAGE_ADVICE;
        return -EMFILE;
    }
    memcpy(&ret->header, ret->bytes,
           (size_t)length < sizeof ret->header ? (size_t)length : sizeof ret->header);
    const char *what = check_packet(ret, (size_t)length, direction, fd_count);
    if (what) {
        fd_close_all(fds, fd_count);
        *ret_what = what;
        return -EBADMSG;
    }
    memcpy(ret->fds, fds, fd_count * sizeof *fds); /* no more than the table has: checked */
    ret->fd_count = fd_count;
    return 1;
}

void read_packet_release(struct read_packet *packet)
{
    fd_close_all(packet->fds, packet->fd_count);
    packet->fd_count = 0;
}
