/* SPDX-License-Identifier: MIT */
/* Arbitrary packets with arbitrary descriptors into read_packet_receive(), as the gate gets them
 * from readers and the library from whoever sits at the socket: it must refuse or accept, never
 * read outside, and never keep a descriptor. The first bytes choose the direction, the number of
 * descriptors and whether the header is repaired so that the payload's own checks are reached. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fdpass.h"
#include "common/read_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHOICES = 3, FDS_MAX = 253 };

static int pair[2] = {-1, -1};
static int fds[FDS_MAX];
static int lowest_free;

static int lowest_fd(void)
{
    int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);
    close(fd);
    return fd;
}

static void set_up(void)
{
    int buffer = 1 << 20;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        abort();
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (size_t i = 0; i < FDS_MAX; i++)
        fds[i] = null;
    lowest_free = lowest_fd();
}

/* Make the header what the rest of the packet deserves. */
static void repair(uint8_t *packet, size_t size)
{
    struct read_header header;
    if (size < sizeof header)
        return;
    memcpy(&header, packet, sizeof header);
    header.magic = READ_MAGIC;
    header.version = READ_VERSION;
    header.type %= 32;
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
    if (pair[0] < 0)
        set_up();
    if (size < CHOICES || size - CHOICES > sizeof bytes)
        return 0;
    enum read_direction direction = data[0] & 1 ? TO_GATE : TO_READER;
    uint32_t fd_count = data[1] < 128 ? data[1] % 2 : data[1] % (FDS_MAX + 1);
    size_t length = size - CHOICES;
    memcpy(bytes, data + CHOICES, length);
    if (data[2] & 1)
        repair(bytes, length);
    struct iovec part = {bytes, length};
    if (fdpass_send(pair[1], &part, 1, fds, fd_count) < 0)
        return 0;
    if (read_packet_receive(pair[0], direction, &packet, &what) == 1) {
        if (direction == TO_GATE && (packet.fd >= 0 || packet.count > 0))
            abort();
        use_request(&packet);
        use_entries(&packet);
        read_packet_release(&packet);
    }
    /* Some slack: the fuzzer's own threads open files now and then. What stays behind adds up soon.
     */
    if (lowest_fd() > lowest_free + 32)
        abort();
    return 0;
}
