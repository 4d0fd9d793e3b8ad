/* SPDX-License-Identifier: MIT */
/* Arbitrary packets with arbitrary descriptors into message_receive(): it must refuse or accept,
 * never read outside, and never keep a descriptor. The first bytes choose the direction, the number
 * of descriptors and whether the header is repaired so that the payload's own checks are reached.
 */
#include "common/message.h"
#include "tests/fuzz/socket_with_fds.h"

enum { CHOICES = 3 };

/* Make the header what the rest of the packet deserves. */
static void repair(uint8_t *packet, size_t size, uint32_t fd_count)
{
    struct message_header header;
    if (size < sizeof header)
        return;
    memcpy(&header, packet, sizeof header);
    header.magic = MESSAGE_MAGIC;
    header.version = MESSAGE_VERSION;
    header.type %= 32;
    header.fd_count = fd_count;
    header.payload_size = (uint32_t)(size - sizeof header);
    memcpy(packet, &header, sizeof header);
}

/* Every text and every count of an accepted message is usable without another look. */
static void use(const struct message *message)
{
    if (message->header.type == MESSAGE_ASSIGN) {
        const struct channel_spec *spec = message_assign_spec(message->assign);
        if (strlen(message->assign->log_dir) >= sizeof message->assign->log_dir)
            abort();
        if (spec &&
            channel_spec_size(channel_spec_destination_count(spec)) != message->assign->spec_size)
            abort();
        for (uint32_t i = 0; spec && i < channel_spec_destination_count(spec); i++)
            if (strlen(spec->destinations[i].name) >= CHANNEL_NAME_SIZE)
                abort();
    }
    if (message->header.type == MESSAGE_RECOVER && message->recover->keep_count > 2)
        abort();
    if (message_fd_count(message->header.type, message->payload) != message->header.fd_count)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t packet[MESSAGE_SIZE_MAX + 64];
    static struct message message;
    const char *what;
    socket_set_up();
    if (size < CHOICES || size - CHOICES > sizeof packet)
        return 0;
    enum message_direction direction = data[0] & 1 ? TO_CHILD : TO_PARENT;
    uint32_t fd_count = data[1] % (MESSAGE_FDS_MAX + 1);
    size_t length = size - CHOICES;
    memcpy(packet, data + CHOICES, length);
    if (data[2] & 1)
        repair(packet, length, fd_count);
    if (socket_send(packet, length, fd_count) < 0)
        return 0;
    if (message_receive(socket_ends[0], direction, &message, &what) == 1) {
        use(&message);
        message_release(&message);
    }
    socket_check();
    return 0;
}
