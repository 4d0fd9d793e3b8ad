/* SPDX-License-Identifier: MIT */
/* The message table as code: what is sent has exactly the declared shape, and nothing else is ever
 * received. Called by the supervisor for every child and by every child for fd 3. Must never leak a
 * received descriptor. */
#include "common/message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/fdpass.h"
#include "common/outbox.h"
#include "common/read_wake.h"

#define FDS_BY_PAYLOAD UINT32_MAX

struct message_shape {
    const char *name;
    enum message_direction direction;
    uint32_t payload_size;
    uint32_t fd_count;
};

#define SHAPES_END 64

static const struct message_shape shapes[SHAPES_END] = {
#define MESSAGE(NAME, number, direction, payload, fds)                                             \
    [number] = {#NAME, direction, sizeof(struct message_##payload), fds},
#include "common/message.def"
#undef MESSAGE
};

_Static_assert(sizeof(struct message_header) + sizeof(struct message_assign) +
                       sizeof(struct channel_spec) +
                       CHANNEL_DESTINATIONS_MAX * sizeof(struct destination_spec) <=
                   MESSAGE_SIZE_MAX,
               "the largest ASSIGN fits");

const char *message_name(unsigned type)
{
    return type < SHAPES_END && shapes[type].name ? shapes[type].name : "unknown";
}

const struct channel_spec *message_assign_spec(const struct message_assign *assign)
{
    return assign->spec_size ? (const struct channel_spec *)(assign + 1) : NULL;
}

uint32_t message_fd_count(unsigned type, const void *payload)
{
    if (type >= SHAPES_END)
        return 0;
    if (shapes[type].fd_count != FDS_BY_PAYLOAD)
        return shapes[type].fd_count;
    if (type == MESSAGE_SEGMENT)
        return ((const struct message_segment *)payload)->error ? 0 : 1;
    if (type == MESSAGE_CHANNEL_LENT)
        return ((const struct message_channel_lent *)payload)->has_ring ? 1 : 0;
    if (type == MESSAGE_LOG_DIR)
        return ((const struct message_log_dir *)payload)->error ? 0 : 1;
    if (type == MESSAGE_PUBLISHED)
        return ((const struct message_published *)payload)->error ? 0 : OUTBOX_FDS;
    const struct message_assign *assign = payload;
    const struct channel_spec *spec = message_assign_spec(assign);
    if (assign->role == ROLE_GATE)
        return 3;
    if (!spec)
        return assign->has_lock ? 1 : 0;
    return 3 + (assign->has_old_ring ? 1 : 0) + (assign->has_segment ? 1 : 0) +
           (assign->has_next ? 1 : 0) + (assign->has_wake ? 2 : 0) +
           channel_spec_destination_count(spec);
}

int message_send(int socket, enum message_type type, uint64_t generation, const void *payload,
                 size_t payload_size, const int *fds, uint32_t fd_count)
{
    struct message_header header = {.magic = MESSAGE_MAGIC,
                                    .version = MESSAGE_VERSION,
                                    .type = (uint16_t)type,
                                    .generation = generation,
                                    .fd_count = fd_count,
                                    .payload_size = (uint32_t)payload_size};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)payload, payload_size}};
    return fdpass_send(socket, parts, 2, fds, fd_count);
}

static const char *check_assign(struct message_assign *assign, size_t payload_size)
{
    const char *what = NULL;
    assign->log_dir[sizeof assign->log_dir - 1] = '\0';
    assign->segment.name[SEGMENT_NAME_SIZE - 1] = '\0';
    assign->next.name[SEGMENT_NAME_SIZE - 1] = '\0';
    if (assign->role != ROLE_CHANNEL && assign->role != ROLE_ARCHIVE && assign->role != ROLE_GATE)
        return "unknown role";
    if (payload_size != sizeof *assign + assign->spec_size)
        return "wrong size";
    if ((assign->role == ROLE_CHANNEL) != (assign->spec_size != 0))
        return "role and settings disagree";
    if (assign->role == ROLE_CHANNEL && (assign->beat_ms == 0 || assign->beat_ms > BEAT_MS_MAX))
        return "signs of life that can't be";
    if (assign->has_old_ring > 1 || assign->has_segment > 1 || assign->has_next > 1 ||
        assign->has_wake > 1 || assign->wake_index >= READ_WAKE_CHANNELS ||
        (assign->role != ROLE_CHANNEL &&
         (assign->has_old_ring || assign->has_segment || assign->has_next || assign->has_wake)))
        return "descriptors that can't be";
    if (assign->has_lock > 1 || (assign->role != ROLE_ARCHIVE && assign->has_lock))
        return "a lock that can't be";
    if (assign->spec_size &&
        channel_spec_check((struct channel_spec *)(assign + 1), assign->spec_size, &what) < 0)
        return what;
    return NULL;
}

#define TERMINATE(text) ((text)[sizeof(text) - 1] = '\0')

/* Every text field of a peer ends inside its field from here on. */
static void terminate_texts(unsigned type, void *payload)
{
    switch (type) {
    case MESSAGE_READY:
        TERMINATE(((struct message_ready *)payload)->reason);
        break;
    case MESSAGE_SEGMENT:
        TERMINATE(((struct message_segment *)payload)->channel);
        TERMINATE(((struct message_segment *)payload)->grant.name);
        TERMINATE(((struct message_segment *)payload)->reason);
        break;
    case MESSAGE_SEGMENT_FAILED:
        TERMINATE(((struct message_segment_failed *)payload)->reason);
        break;
    case MESSAGE_RECOVER:
        TERMINATE(((struct message_recover *)payload)->channel);
        TERMINATE(((struct message_recover *)payload)->keep[0]);
        TERMINATE(((struct message_recover *)payload)->keep[1]);
        break;
    case MESSAGE_RECOVERED:
        TERMINATE(((struct message_recovered *)payload)->channel);
        TERMINATE(((struct message_recovered *)payload)->reason);
        break;
    case MESSAGE_OPEN_SEGMENT:
        TERMINATE(((struct message_open_segment *)payload)->channel);
        break;
    case MESSAGE_BEGIN_SEGMENT:
        TERMINATE(((struct message_begin_segment *)payload)->channel);
        TERMINATE(((struct message_begin_segment *)payload)->from);
        TERMINATE(((struct message_begin_segment *)payload)->to);
        break;
    case MESSAGE_SEAL:
        TERMINATE(((struct message_seal *)payload)->channel);
        TERMINATE(((struct message_seal *)payload)->name);
        break;
    case MESSAGE_SEALED:
        TERMINATE(((struct message_sealed *)payload)->channel);
        TERMINATE(((struct message_sealed *)payload)->name);
        TERMINATE(((struct message_sealed *)payload)->reason);
        break;
    case MESSAGE_EXPIRE:
        TERMINATE(((struct message_expire *)payload)->channel);
        break;
    case MESSAGE_SWEEP:
        TERMINATE(((struct message_sweep *)payload)->channel);
        break;
    case MESSAGE_NUMBERS:
        TERMINATE(((struct message_numbers *)payload)->channel);
        TERMINATE(((struct message_numbers *)payload)->listen);
        break;
    case MESSAGE_NUMBERED:
        TERMINATE(((struct message_numbered *)payload)->channel);
        TERMINATE(((struct message_numbered *)payload)->reason);
        break;
    case MESSAGE_SYNC:
        TERMINATE(((struct message_sync *)payload)->channel);
        break;
    case MESSAGE_SYNCED:
        TERMINATE(((struct message_synced *)payload)->channel);
        break;
    case MESSAGE_CHANNEL_LENT:
        TERMINATE(((struct message_channel_lent *)payload)->channel);
        TERMINATE(((struct message_channel_lent *)payload)->listen);
        break;
    case MESSAGE_CHANNEL_GONE:
        TERMINATE(((struct message_channel_gone *)payload)->channel);
        break;
    case MESSAGE_POSITION_SAVE:
        TERMINATE(((struct message_position_save *)payload)->channel);
        TERMINATE(((struct message_position_save *)payload)->name);
        break;
    case MESSAGE_POSITION_SAVED:
        TERMINATE(((struct message_position_saved *)payload)->channel);
        TERMINATE(((struct message_position_saved *)payload)->name);
        TERMINATE(((struct message_position_saved *)payload)->reason);
        break;
    case MESSAGE_LOG_DIR:
        TERMINATE(((struct message_log_dir *)payload)->reason);
        break;
    case MESSAGE_OUTBOX_DONE:
        TERMINATE(((struct message_outbox_done *)payload)->reason);
        break;
    case MESSAGE_PUBLISH:
        TERMINATE(((struct message_publish *)payload)->channel);
        TERMINATE(((struct message_publish *)payload)->name);
        break;
    case MESSAGE_PUBLISHED:
        TERMINATE(((struct message_published *)payload)->reason);
        break;
    default:
        break;
    }
}

/* NULL when the packet is exactly what its header and the table say. */
static const char *check_packet(struct message *message, size_t length,
                                enum message_direction direction, uint32_t fd_count)
{
    const struct message_header *header = &message->header;
    if (length < sizeof *header)
        return "shorter than a header";
    if (header->magic != MESSAGE_MAGIC)
        return "wrong magic";
    if (header->version != MESSAGE_VERSION)
        return "another protocol version";
    if (header->type >= SHAPES_END || !shapes[header->type].name)
        return "unknown type";
    const struct message_shape *shape = &shapes[header->type];
    if (!(shape->direction & direction))
        return "wrong direction";
    if (header->payload_size != length - sizeof *header)
        return "wrong size";
    void *payload = message->bytes + sizeof *header;
    if (header->type == MESSAGE_ASSIGN) {
        if (header->payload_size < shape->payload_size)
            return "wrong size";
        const char *what = check_assign(payload, header->payload_size);
        if (what)
            return what;
    } else if (header->payload_size != shape->payload_size) {
        return "wrong size";
    }
    if (header->type == MESSAGE_RECOVER &&
        ((const struct message_recover *)payload)->keep_count > 2)
        return "more segments to keep than it has room for";
    if (header->type == MESSAGE_CHANNEL_LENT &&
        (((const struct message_channel_lent *)payload)->has_ring > 1 ||
         ((const struct message_channel_lent *)payload)->wake_index >= READ_WAKE_CHANNELS))
        return "a ring that can't be";
    if ((header->type == MESSAGE_OUTBOX &&
         ((const struct message_outbox *)payload)->place >= CHANNEL_PUBLISHERS_MAX) ||
        (header->type == MESSAGE_OUTBOX_DONE &&
         ((const struct message_outbox_done *)payload)->place >= CHANNEL_PUBLISHERS_MAX))
        return "a publisher's place that can't be";
    terminate_texts(header->type, payload);
    if (header->fd_count != fd_count || message_fd_count(header->type, payload) != fd_count)
        return "wrong number of file descriptors";
    return NULL;
}

/* The segment that the archive has made came without its descriptor: that is as good as none, and
 * no fault of the archive's. */
static bool is_lost_segment(struct message *message, size_t length,
                            enum message_direction direction)
{
    struct message_segment *segment =
        (struct message_segment *)(message->bytes + sizeof message->header);
    if (message->header.type != MESSAGE_SEGMENT || direction != TO_PARENT ||
        length != sizeof message->header + sizeof *segment)
        return false;
    segment->error = EMFILE;
    snprintf(segment->reason, sizeof segment->reason, "too many open files: " FD_SHORTAGE_ADVICE);
    message->header.fd_count = 0;
    return true;
}

/* Likewise an outbox: who asked is told. */
static bool is_lost_outbox(struct message *message, size_t length, enum message_direction direction)
{
    struct message_published *published =
        (struct message_published *)(message->bytes + sizeof message->header);
    if (message->header.type != MESSAGE_PUBLISHED || direction != TO_CHILD ||
        length != sizeof message->header + sizeof *published)
        return false;
    published->error = EMFILE;
    snprintf(published->reason, sizeof published->reason,
             "too many open files: " FD_SHORTAGE_ADVICE);
    message->header.fd_count = 0;
    return true;
}

int message_receive(int socket, enum message_direction direction, struct message *ret,
                    const char **ret_what)
{
    uint32_t fd_count;
    ret->header.fd_count = 0;
    *ret_what = "";
    ssize_t length =
        fdpass_receive(socket, ret->bytes, sizeof ret->bytes, ret->fds, MESSAGE_FDS_MAX, &fd_count);
    if (length == -EBADMSG)
        *ret_what = "packet or file descriptors truncated";
    if (length <= 0)
        return (int)length;
    memset(&ret->header, 0, sizeof ret->header);
    memcpy(&ret->header, ret->bytes,
           (size_t)length < sizeof ret->header ? (size_t)length : sizeof ret->header);
    const char *what = NULL;
    if (fd_count == FDPASS_LOST) {
        fd_count = 0;
        if (!is_lost_segment(ret, (size_t)length, direction) &&
            !is_lost_outbox(ret, (size_t)length, direction))
            what = "its file descriptors found no free number";
    }
    if (!what)
        what = check_packet(ret, (size_t)length, direction, fd_count);
    if (what) {
        fd_close_all(ret->fds, fd_count);
        ret->header.fd_count = 0;
        *ret_what = what;
        return -EBADMSG;
    }
    ret->payload = ret->bytes + sizeof ret->header;
    return 1;
}

void message_release(struct message *message)
{
    fd_close_all(message->fds, message->header.fd_count);
    message->header.fd_count = 0;
}
