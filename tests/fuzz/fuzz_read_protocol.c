/* SPDX-License-Identifier: MIT */
/* Arbitrary packets with arbitrary descriptors into read_packet_receive(), as the gate gets them
 * from readers and the library from whoever sits at the socket: it must refuse or accept, never
 * read outside, and never keep a descriptor. The first bytes choose the direction, the number of
 * descriptors and whether the header is repaired so that the payload's own checks are reached. */
#include "common/read_protocol.h"
#include "tests/fuzz/socket_with_fds.h"

enum { CHOICES = 3 };

/* Make the header what the rest of the packet deserves. */
static void repair(uint8_t *packet, size_t size)
{
    struct read_header header;
    if (size < sizeof header)
        return;
    memcpy(&header, packet, sizeof header);
    header.magic = READ_MAGIC;
    header.version = READ_VERSION;
    header.type %= 32; /* 31 is the last one */
    header.size = (uint32_t)(size - sizeof header);
    memcpy(packet, &header, sizeof header);
}

static void use_text(const char *text, size_t size)
{
    if (strnlen(text, size) == size)
        abort();
}

#define USE(text) use_text((text), sizeof(text))

static void use_request(const struct read_packet *packet)
{
    switch (packet->header.type) {
    case READ_HELLO:
        USE(packet->hello->program);
        break;
    case READ_LIST:
        USE(packet->list->after);
        break;
    case READ_ATTACH:
        USE(packet->attach->channel);
        break;
    case READ_CLAIM:
    case READ_SAVE:
    case READ_FORGET:
    case READ_POSITION:
        USE(packet->position->channel);
        USE(packet->position->name);
        break;
    case READ_POSITIONS:
        USE(packet->list_positions->channel);
        USE(packet->list_positions->after_channel);
        USE(packet->list_positions->after);
        break;
    case READ_PUBLISH:
        USE(packet->publish->channel);
        break;
    case READ_SEGMENTS:
        USE(packet->list_segments->channel);
        USE(packet->list_segments->after);
        break;
    case READ_REFUSED:
        USE(packet->refused->reason);
        break;
    case READ_SEGMENT_FOUND:
        USE(packet->found->name);
        break;
    }
}

static void use_entries(const struct read_packet *packet)
{
    for (uint32_t i = 0; i < packet->count; i++) {
        const struct read_channel *channel = packet->entries;
        const struct read_position_entry *position = packet->entries;
        const struct read_segment_entry *segment = packet->entries;
        const struct read_reader_entry *reader = packet->entries;
        switch (packet->header.type) {
        case READ_CHANNELS:
            USE(channel[i].name);
            USE(channel[i].listen);
            break;
        case READ_POSITION_LIST:
            USE(position[i].channel);
            USE(position[i].name);
            break;
        case READ_SEGMENT_LIST:
            USE(segment[i].name);
            break;
        case READ_READER_LIST:
            USE(reader[i].program);
            USE(reader[i].channel);
            break;
        default:
            abort(); /* it is no list */
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[READ_PACKET_MAX + 64];
    static struct read_packet packet;
    const char *what;
    socket_set_up();
    if (size < CHOICES || size - CHOICES > sizeof bytes)
        return 0;
    enum read_direction direction = data[0] & 1 ? TO_GATE : TO_READER;
    uint32_t fd_count =
        data[1] < 128 ? data[1] % (READ_FDS_MAX + 2) : data[1] % (SOCKET_FDS_MAX + 1);
    size_t length = size - CHOICES;
    memcpy(bytes, data + CHOICES, length);
    if (data[2] & 1)
        repair(bytes, length);
    if (socket_send(bytes, length, fd_count) < 0)
        return 0;
    if (read_packet_receive(socket_ends[0], direction, &packet, &what) == 1) {
        if (direction == TO_GATE && (packet.fd >= 0 || packet.fd_count > 0 || packet.count > 0))
            abort();
        if (packet.header.type == READ_PUBLISHED && packet.fd_count != READ_FDS_MAX)
            abort();
        use_request(&packet);
        use_entries(&packet);
        read_packet_release(&packet);
    }
    socket_check();
    return 0;
}
