/* SPDX-License-Identifier: MIT */
/* A handle that is connected to a daemon: hf_open(), and the requests that are answered with a
 * list. Each of them waits, for two seconds at most, for each part of a list, and connects once
 * more if the connection has ended meanwhile: the process that serves readers may have been
 * replaced. However much comes, nothing here waits or grows without end. */
#include "common/client/holdfast.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_spec.h"
#include "common/client/client.h"
#include "common/client/gate_link.h"
#include "common/client/live_log.h"
#include "common/client/live_range.h"
#include "common/client/live_reader.h"
#include "common/client/live_request.h"
#include "common/client/writer.h"
#include "common/fd.h"
#include "common/read_protocol.h"
#include "common/read_stream.h"

/* Entries of a list. More than that, there isn't anything that the gate could list. */
#define LIST_MOST ((size_t)1 << 20)

/* ---- lists ---- */

/* A list comes in pages; each is asked for by the last entry of the one before. */
struct live_list {
    size_t entry_size; /* of what the program gets */
    /* One entry as it came, as the program gets it. */
    void (*translate)(const void *from, size_t index, void *to);
    /* The next page is to begin behind this entry: written into the request's payload. */
    void (*go_on)(const void *last, size_t index, void *payload);
};

static int grow(void **list, size_t size)
{
    void *grown = realloc(*list, size);
    if (!grown)
        return -ENOMEM;
    *list = grown;
    return 0;
}

/* The request for the part behind the one that has come. -EPROTO: that one ended where the one
 * before did, and so would all others. */
static int go_on(const struct live *live, const struct live_list *list,
                 const struct live_request *request)
{
    uint8_t before[sizeof(struct read_list_segments)];
    _Static_assert(sizeof before >= sizeof(struct read_list_positions), "each of them fits");
    memcpy(before, request->payload, request->size);
    list->go_on(live->packet.entries, live->packet.count - 1, (void *)request->payload);
    return memcmp(before, request->payload, request->size) == 0 ? -EPROTO : 0;
}

static int get_list(struct live *live, const struct live_list *list,
                    const struct live_request *request, void *ret, size_t *ret_count)
{
    const monotonic deadline = monotonic_add(monotonic_now(), GATE_LIST_PATIENCE_NS);
    void *all = NULL;
    size_t count = 0;
    int result;
    for (;;) {
        result = live_ask(live, request);
        const uint32_t more = live->packet.count;
        if (result < 0 || more == 0)
            break;
        result = grow(&all, (count + more) * list->entry_size);
        if (result < 0)
            break;
        memset((uint8_t *)all + count * list->entry_size, 0, more * list->entry_size);
        for (uint32_t i = 0; i < more; i++, count++)
            list->translate(live->packet.entries, i, (uint8_t *)all + count * list->entry_size);
        result = go_on(live, list, request);
        if (result == 0)
            result = count > LIST_MOST                   ? -EPROTO
                     : monotonic_now().ns >= deadline.ns ? -ETIMEDOUT
                                                         : 0;
        if (result < 0)
            break;
    }
    if (result == 0 && !all)
        result = grow(&all, 1); /* free(3) of an empty list is no special case */
    if (result < 0) {
        free(all);
        return result;
    }
    memcpy(ret, &all, sizeof all);
    *ret_count = count;
    return 0;
}

/* Same room on both sides, or more here. */
#define COPY_TEXT(to, from) snprintf((to), sizeof(to), "%s", (from))

static void translate_channel(const void *from, size_t index, void *to)
{
    const struct read_channel *it = (const struct read_channel *)from + index;
    struct hf_channel *channel = to;
    COPY_TEXT(channel->name, it->name);
    COPY_TEXT(channel->listen, it->listen);
    channel->can = it->can;
    channel->first_seq = it->first_seq;
    channel->end_seq = it->end_seq;
}

static void after_channel(const void *last, size_t index, void *payload)
{
    struct read_list *list = payload;
    COPY_TEXT(list->after, ((const struct read_channel *)last)[index].name);
}

static int live_list(hf *handle, struct hf_channel **ret, size_t *ret_count)
{
    static const struct live_list channels = {sizeof(struct hf_channel), translate_channel,
                                              after_channel};
    struct read_list payload = {0};
    const struct live_request request = {READ_LIST, READ_CHANNELS, &payload, sizeof payload};
    return get_list((struct live *)handle, &channels, &request, ret, ret_count);
}

/* The name, or that of the only channel there is. */
static int find_channel(hf *handle, const char *channel, char ret[CHANNEL_NAME_SIZE])
{
    struct hf_channel *channels;
    size_t count;
    if (channel) {
        /* A name that can't be one is nobody's. */
        if (!channel_name_is_valid(channel))
            return -ENOENT;
        snprintf(ret, CHANNEL_NAME_SIZE, "%s", channel);
        return 0;
    }
    int result = live_list(handle, &channels, &count);
    if (result < 0)
        return result;
    if (count == 1)
        snprintf(ret, CHANNEL_NAME_SIZE, "%.*s", CHANNEL_NAME_SIZE - 1, channels[0].name);
    else
        result = -EINVAL;
    free(channels);
    return result;
}

static void translate_segment(const void *from, size_t index, void *to)
{
    live_log_describe((const struct read_segment_entry *)from + index, to);
}

static void after_segment(const void *last, size_t index, void *payload)
{
    struct read_list_segments *list = payload;
    COPY_TEXT(list->after, ((const struct read_segment_entry *)last)[index].name);
}

static int live_log_list(hf *handle, const char *channel, struct hf_log **ret, size_t *ret_count)
{
    static const struct live_list segments = {sizeof(struct hf_log), translate_segment,
                                              after_segment};
    struct read_list_segments payload = {0};
    const struct live_request request = {READ_SEGMENTS, READ_SEGMENT_LIST, &payload,
                                         sizeof payload};
    int result = find_channel(handle, channel, payload.channel);
    if (result == 0)
        result = get_list((struct live *)handle, &segments, &request, ret, ret_count);
    for (size_t i = 0; result == 0 && i < *ret_count; i++)
        COPY_TEXT((*ret)[i].channel, payload.channel);
    return result;
}

static int live_log_open(hf *handle, const char *channel, const struct log_name *name,
                         struct hf_log *ret)
{
    char found[CHANNEL_NAME_SIZE];
    int result = find_channel(handle, channel, found);
    if (result == 0)
        result = live_log_lend((struct live *)handle, found, name, ret);
    return result;
}

static int64_t live_log_copy(hf *handle, const char *channel, const struct log_name *name,
                             const struct log_copy *copy)
{
    char found[CHANNEL_NAME_SIZE];
    int result = find_channel(handle, channel, found);
    if (result < 0)
        return result;
    return name->by == LOG_RANGE ? live_range_send((struct live *)handle, found, name, copy)
                                 : live_log_send((struct live *)handle, found, name, copy);
}

static int live_find(hf *handle, const char *channel, const struct log_name *name,
                     struct hf_log *ret)
{
    char found[CHANNEL_NAME_SIZE];
    int result = find_channel(handle, channel, found);
    return result < 0 ? result : live_log_find((struct live *)handle, found, name, ret);
}

static int live_log_pieces(hf *handle, const char *channel, const struct log_name *name,
                           struct hf_log_piece **ret, size_t *ret_count)
{
    char found[CHANNEL_NAME_SIZE];
    int result = find_channel(handle, channel, found);
    return result < 0 ? result
                      : live_range_pieces((struct live *)handle, found, name, ret, ret_count);
}

static void translate_position(const void *from, size_t index, void *to)
{
    const struct read_position_entry *it = (const struct read_position_entry *)from + index;
    struct hf_position *position = to;
    COPY_TEXT(position->channel, it->channel);
    COPY_TEXT(position->name, it->name);
    position->seq = it->seq;
    position->saved_ns = it->saved_ns;
    position->uid = it->uid;
    position->in_use = it->in_use;
}

static void after_position(const void *last, size_t index, void *payload)
{
    const struct read_position_entry *it = (const struct read_position_entry *)last + index;
    struct read_list_positions *list = payload;
    COPY_TEXT(list->after_channel, it->channel);
    COPY_TEXT(list->after, it->name);
}

static int live_position_list(hf *handle, const char *channel, struct hf_position **ret,
                              size_t *ret_count)
{
    static const struct live_list positions = {sizeof(struct hf_position), translate_position,
                                               after_position};
    struct read_list_positions payload = {0};
    const struct live_request request = {READ_POSITIONS, READ_POSITION_LIST, &payload,
                                         sizeof payload};
    int result = channel ? find_channel(handle, channel, payload.channel) : 0;
    return result < 0 ? result
                      : get_list((struct live *)handle, &positions, &request, ret, ret_count);
}

static void translate_reader(const void *from, size_t index, void *to)
{
    const struct read_reader_entry *it = (const struct read_reader_entry *)from + index;
    struct hf_connection *connection = to;
    connection->uid = it->uid;
    connection->pid = it->pid;
    COPY_TEXT(connection->program, it->program);
    COPY_TEXT(connection->channel, it->channel);
    connection->mode = it->mode;
    connection->next_seq = it->next_seq;
    connection->end_seq = it->end_seq;
    connection->since_ns = it->since_ns;
    connection->requests = it->requests;
    connection->bytes = it->bytes;
    connection->requests_per_second = it->requests_per_second;
    connection->bytes_per_second = it->bytes_per_second;
}

static void after_reader(const void *last, size_t index, void *payload)
{
    struct read_list_readers *list = payload;
    list->after = ((const struct read_reader_entry *)last)[index].number;
}

static int live_connection_list(hf *handle, struct hf_connection **ret, size_t *ret_count)
{
    static const struct live_list readers = {sizeof(struct hf_connection), translate_reader,
                                             after_reader};
    struct read_list_readers payload = {0};
    const struct live_request request = {READ_READERS, READ_READER_LIST, &payload, sizeof payload};
    return get_list((struct live *)handle, &readers, &request, ret, ret_count);
}

/* ---- the rest ---- */

static int live_forget(hf *handle, const char *channel, const char *position)
{
    struct read_position payload = {0};
    const struct live_request request = {READ_FORGET, READ_POSITION, &payload, sizeof payload};
    if (strlen(position) >= sizeof payload.name)
        return -ENOENT;
    int result = find_channel(handle, channel, payload.channel);
    COPY_TEXT(payload.name, position);
    return result < 0 ? result : live_ask((struct live *)handle, &request);
}

static int live_read(hf *handle, const char *channel, const struct hf_start *start, unsigned mode,
                     hf_reader **ret)
{
    const struct live *live = (struct live *)handle;
    char name[CHANNEL_NAME_SIZE];
    int result = find_channel(handle, channel, name);
    return result < 0 ? result : live_reader_open(&live->address, name, start, mode, ret);
}

static int live_publish(hf *handle, const char *channel, hf_writer **ret)
{
    return writer_open(&((struct live *)handle)->address, channel, ret);
}

static void live_close(hf *handle)
{
    struct live *live = (struct live *)handle;
    live_disconnect(live);
    fd_close(&live->fd);
    free(live->stream);
    free(live);
}

static const struct handle_kind live_handle = {.list = live_list,
                                               .read = live_read,
                                               .log_list = live_log_list,
                                               .log_open = live_log_open,
                                               .log_find = live_find,
                                               .log_pieces = live_log_pieces,
                                               .log_copy = live_log_copy,
                                               .position_list = live_position_list,
                                               .forget = live_forget,
                                               .connection_list = live_connection_list,
                                               .publish = live_publish,
                                               .close = live_close};

/* ---- over TCP ---- */

static int no_read(hf *handle, const char *channel, const struct hf_start *start, unsigned mode,
                   hf_reader **ret)
{
    (void)handle, (void)channel, (void)start, (void)mode, (void)ret;
    return -EOPNOTSUPP;
}

static int no_open(hf *handle, const char *channel, const struct log_name *name, struct hf_log *ret)
{
    (void)handle, (void)channel, (void)name, (void)ret;
    return -EOPNOTSUPP;
}

static int64_t remote_log_copy(hf *handle, const char *channel, const struct log_name *name,
                               const struct log_copy *copy)
{
    return copy->how == HF_BY_FD ? -EOPNOTSUPP : live_log_copy(handle, channel, name, copy);
}

static const struct handle_kind remote_handle = {.list = live_list,
                                                 .read = no_read,
                                                 .log_list = live_log_list,
                                                 .log_open = no_open,
                                                 .log_find = live_find,
                                                 .log_copy = remote_log_copy,
                                                 .close = live_close};

/* ---- opening ---- */

static int find_gate(struct live *live, const char *read_socket)
{
    if (!gate_link_is_remote(read_socket))
        return gate_link_address(read_socket, &live->address);
    live->base.kind = &remote_handle;
    live->stream = read_stream_new(READ_PACKET_MAX);
    return live->stream ? gate_link_find_remote(read_socket, &live->remote) : -ENOMEM;
}

int hf_open(hf **ret, const char *read_socket)
{
    *ret = NULL;
    struct live *live = calloc(1, sizeof *live);
    if (!live)
        return -ENOMEM;
    live->base.kind = &live_handle;
    live->socket = live->fd = -1;
    int result = find_gate(live, read_socket);
    if (result == 0) {
        monotonic deadline = monotonic_add(monotonic_now(), GATE_PATIENCE_NS);
        result = live_connect(live, deadline);
        if (result == -ECONNRESET)
            result = live_connect(live, deadline);
    }
    if (result < 0) {
        live_close(&live->base);
        return result;
    }
    *ret = &live->base;
    return 0;
}
