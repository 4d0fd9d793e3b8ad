/* SPDX-License-Identifier: MIT */
/* Keeps what the supervisor has lent, ordered by name. Called by the main loop. What workers have
 * written into it is looked at, and never believed to be possible. */
#include "worker/gate/gate_channels.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_public.h"
#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/log.h"
#include "worker/gate/gate_folder.h"

size_t gate_channels_find_after(const struct gate *gate, const char *name)
{
    size_t low = 0, high = gate->channel_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(gate->channels[middle]->name, name) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct gate_channel *gate_channels_find(const struct gate *gate, const char *name)
{
    size_t behind = gate_channels_find_after(gate, name);
    struct gate_channel *before = behind > 0 ? gate->channels[behind - 1] : NULL;
    return before && strcmp(before->name, name) == 0 ? before : NULL;
}

static struct gate_channel *make(struct gate *gate, const char *name)
{
    if (gate->channel_count == gate->channel_room) {
        size_t room = gate->channel_room ? 2 * gate->channel_room : 64;
        struct gate_channel **channels = reallocarray(gate->channels, room, sizeof *channels);
        if (!channels)
            return NULL;
        gate->channels = channels;
        gate->channel_room = room;
    }
    struct gate_channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return NULL;
    channel->folder = gate_folder_new(gate->log_dir, name);
    if (!channel->folder) {
        free(channel);
        return NULL;
    }
    channel->memory = -1;
    snprintf(channel->name, sizeof channel->name, "%s", name);
    size_t at = gate_channels_find_after(gate, name);
    memmove(&gate->channels[at + 1], &gate->channels[at],
            (gate->channel_count - at) * sizeof(struct gate_channel *));
    gate->channels[at] = channel;
    gate->channel_count++;
    return channel;
}

static void drop_ring(struct gate_channel *channel)
{
    channel_public_unmap(&channel->map);
    fd_close(&channel->memory);
}

/* What can't be mapped now may be later: it is tried again when somebody asks for it. */
static int map_ring(struct gate_channel *channel)
{
    const char *what;
    int result = channel_public_map(channel->memory, false, &channel->map, &what);
    if (result == 0) {
        channel->map_failed = false;
        return 0;
    }
    if (!channel->map_failed)
        log_warning("channel %s: readers can't be lent its memory: %s", channel->name,
                    result == -EBADMSG ? what : strerror(-result));
    channel->map_failed = true;
    if (result == -EBADMSG)
        fd_close(&channel->memory);
    return result;
}

struct gate_channel *gate_channels_lend(struct gate *gate, const struct message_channel_lent *lent,
                                        int *fd)
{
    struct gate_channel *channel = gate_channels_find(gate, lent->channel);
    if (!channel)
        channel = make(gate, lent->channel);
    if (!channel) {
        fd_close(fd);
        return NULL;
    }
    drop_ring(channel);
    snprintf(channel->listen, sizeof channel->listen, "%s", lent->listen);
    channel->wake_index = lent->wake_index;
    channel->records = lent->records;
    channel->settled = lent->settled;
    channel->publishes = lent->publishes;
    channel->publishers = lent->publishers;
    channel->ring = lent->has_ring ? lent->ring : 0;
    channel->memory = fd_take(fd);
    channel->map_failed = false;
    if (channel->memory >= 0)
        map_ring(channel);
    return channel;
}

void gate_channels_remove(struct gate *gate, struct gate_channel *channel)
{
    size_t at = gate_channels_find_after(gate, channel->name) - 1;
    memmove(&gate->channels[at], &gate->channels[at + 1],
            (gate->channel_count - at - 1) * sizeof(struct gate_channel *));
    gate->channel_count--;
    drop_ring(channel);
    gate_folder_release(&channel->folder);
    free(channel);
}

uint64_t gate_channels_ring(const struct gate_channel *channel, uint32_t mode)
{
    bool reads_ring = mode == HF_NEWEST || (mode == HF_NEW && !channel->records);
    return reads_ring || (channel->records && channel->settled) ? channel->ring : 0;
}

void gate_channels_view(const struct gate_channel *channel, struct gate_view *ret)
{
    const struct channel_public *page = channel->map.page;
    *ret = (struct gate_view){.has_ring = page != NULL};
    if (!page)
        return;
    ret->has_commit = channel_public_read_commit(page, &ret->commit);
    ret->published = channel_public_published(page);
    ret->retired = channel_public_is_retired(page, NULL);
}

uint64_t gate_channels_end(const struct gate_channel *channel, uint32_t mode)
{
    struct gate_view view;
    if (gate_channels_ring(channel, mode) == 0)
        return 0;
    gate_channels_view(channel, &view);
    if (mode == HF_NEWEST || !channel->records)
        return view.published;
    return view.has_commit ? view.commit.next_seq : 0;
}

int gate_channels_open_memory(struct gate_channel *channel, uint32_t mode, int *ret_fd)
{
    char path[64];
    *ret_fd = -1;
    if (gate_channels_ring(channel, mode) == 0)
        return 0;
    int result = channel->memory >= 0 && !channel->map.page ? map_ring(channel) : 0;
    if (channel->memory < 0)
        return 0;
    if (result < 0)
        return result;
    /* A dup would share offset, flags and flock(2) with every other reader, and with us. */
    snprintf(path, sizeof path, "/proc/self/fd/%d", channel->memory);
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    return *ret_fd < 0 ? -errno : 0;
}
