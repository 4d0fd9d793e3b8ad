/* SPDX-License-Identifier: MIT */
/* Handles of files: what there is to read, without a daemon. Called through the public functions.
 * Nothing is open between calls but the folders, so that any number of files can be read. */
#include "common/client/holdfast.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/avro_log_header.h"
#include "common/client/log_bytes.h"
#include "common/client/offline_files.h"
#include "common/client/offline_mixed.h"
#include "common/client/offline_range.h"
#include "common/client/offline_read.h"
#include "common/fd.h"

/* ---- opening ---- */

static _Thread_local char problem[2 * PATH_MAX + 128];

const char *hf_file_problem(void)
{
    return problem;
}

static int refuse(const char *path, const char *what, int error)
{
    snprintf(problem, sizeof problem, "%s: %s", path, what[0] ? what : strerror(-error));
    return error;
}

/* The channel, or NULL and *ret_error, told as hf_file_problem() where there is more to be said. */
static const struct offline_channel *find_channel(hf *handle, const char *name, int *ret_error)
{
    const char *what;
    const struct offline_channel *channel =
        offline_set_find(&((struct offline *)handle)->set, name, ret_error, &what);
    if (what)
        snprintf(problem, sizeof problem, "%s", what);
    return channel;
}

static int add_all(struct offline_set *set, const char *const paths[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *what;
        int result = offline_set_add(set, paths[i], &what);
        if (result < 0)
            return refuse(paths[i], what, result);
    }
    if (set->count == 0)
        return refuse(count > 0 ? paths[0] : "",
                      "there is no file with a log file's name (CHANNEL-NUMBER-UTC.avro)",
                      -ENODATA);
    offline_set_order(set);
    int result = offline_mixed_look(set);
    offline_set_drop_twins(set);
    return result;
}

/* ---- what there is ---- */

static void describe_channel(const struct offline_channel *channel, struct hf_channel *ret)
{
    const struct offline_file *last = &channel->files[channel->count - 1];
    struct avro_log_identity identity;
    *ret = (struct hf_channel){
        .can = HF_CAN_OLD, .first_seq = channel->files[0].first_seq, .end_seq = last->first_seq};
    snprintf(ret->name, sizeof ret->name, "%s", channel->name);
    if (!offline_file_identify(last, &identity, NULL))
        return;
    snprintf(ret->listen, sizeof ret->listen, "%s", identity.listen);
    if (!last->open)
        ret->end_seq = offline_find_end(channel);
}

static int list(hf *handle, struct hf_channel **ret, size_t *ret_count)
{
    const struct offline_set *set = &((struct offline *)handle)->set;
    *ret = calloc(set->count, sizeof **ret);
    if (!*ret)
        return -ENOMEM;
    for (size_t i = 0; i < set->count; i++)
        describe_channel(&set->channels[i], &(*ret)[i]);
    *ret_count = set->count;
    return 0;
}

static void describe_file(const struct offline_channel *channel, const struct offline_file *file,
                          struct hf_log *ret)
{
    struct avro_log_identity identity;
    *ret = (struct hf_log){.first_seq = file->first_seq, .is_open = file->open, .fd = -1};
    snprintf(ret->channel, sizeof ret->channel, "%s", channel->name);
    snprintf(ret->name, sizeof ret->name, "%s", file->name);
    if (!offline_file_identify(file, &identity, &ret->size))
        return;
    ret->created_ns = (int64_t)identity.created_ns;
    ret->has_totals = identity.has_totals;
    if (!identity.has_totals)
        return;
    ret->last_seq = identity.totals.last_seq;
    ret->records = identity.totals.records;
    ret->first_time_ns = (int64_t)identity.totals.first_time_ns;
    ret->last_time_ns = (int64_t)identity.totals.last_time_ns;
}

static int log_list(hf *handle, const char *name, struct hf_log **ret, size_t *ret_count)
{
    int error;
    const struct offline_channel *channel = find_channel(handle, name, &error);
    if (!channel)
        return error;
    *ret = calloc(channel->count, sizeof **ret);
    if (!*ret)
        return -ENOMEM;
    for (size_t i = 0; i < channel->count; i++)
        describe_file(channel, &channel->files[i], &(*ret)[i]);
    *ret_count = channel->count;
    return 0;
}

/* The first one that has this time, or says nothing of it; else the last one. */
static const struct offline_file *find_time(const struct offline_channel *channel, int64_t time_ns)
{
    struct hf_log log;
    for (size_t i = 0; i < channel->count; i++) {
        describe_file(channel, &channel->files[i], &log);
        if (!log.has_totals || (log.records > 0 && log.last_time_ns >= time_ns))
            return &channel->files[i];
    }
    return channel->count ? &channel->files[channel->count - 1] : NULL;
}

static const struct offline_file *find_file(const struct offline_channel *channel,
                                            const struct log_name *name)
{
    const struct offline_file *found = NULL;
    if (name->by == LOG_BY_TIME)
        return find_time(channel, name->time_ns);
    if (name->by == LOG_FIRST)
        return channel->count ? &channel->files[0] : NULL;
    if (name->by == LOG_LAST)
        return channel->count ? &channel->files[channel->count - 1] : NULL;
    for (size_t i = 0; i < channel->count; i++) {
        const struct offline_file *file = &channel->files[i];
        if (name->by == LOG_BY_NAME && strcmp(file->name, name->name) == 0)
            return file;
        if (name->by == LOG_BY_SEQ && (!found || file->first_seq <= name->seq))
            found = file;
    }
    return found;
}

static int log_open(hf *handle, const char *channel_name, const struct log_name *name,
                    struct hf_log *ret)
{
    int error;
    const struct offline_channel *channel = find_channel(handle, channel_name, &error);
    if (!channel)
        return error;
    const struct offline_file *file = find_file(channel, name);
    if (!file)
        return -ENOENT;
    describe_file(channel, file, ret);
    if (name->by == LOG_BY_SEQ &&
        (name->seq < ret->first_seq ||
         (ret->has_totals && ret->records > 0 && name->seq > ret->last_seq)))
        return -ENOENT;
    if (name->by == LOG_BY_TIME && ret->has_totals && ret->records > 0 &&
        ret->last_time_ns < name->time_ns)
        return -ENOENT;
    ret->fd = offline_file_open(file);
    return ret->fd < 0 ? ret->fd : 0;
}

static int log_find(hf *handle, const char *channel, const struct log_name *name,
                    struct hf_log *ret)
{
    int result = log_open(handle, channel, name, ret);
    fd_close(&ret->fd);
    return result;
}

static size_t find_name(const struct offline_channel *channel, const char *name)
{
    size_t at = 0;
    while (at + 1 < channel->count && strcmp(channel->files[at].name, name) != 0)
        at++;
    return at;
}

static int log_pieces(hf *handle, const char *channel_name, const struct log_name *name,
                      struct hf_log_piece **ret, size_t *ret_count)
{
    int error;
    const struct offline_channel *channel = find_channel(handle, channel_name, &error);
    if (!channel)
        return error;
    int result = offline_range_pieces(channel, name, ret, ret_count);
    for (size_t i = 0; i < *ret_count; i++) {
        struct hf_log *log = &(*ret)[i].log;
        const int fd = log->fd;
        describe_file(channel, &channel->files[find_name(channel, log->name)], log);
        log->fd = fd;
    }
    return result;
}

static int64_t log_copy(hf *handle, const char *channel, const struct log_name *name,
                        const struct log_copy *copy)
{
    struct hf_log log = {.fd = -1};
    int error;
    if (name->by == LOG_RANGE) {
        const struct offline_channel *found = find_channel(handle, channel, &error);
        return found ? offline_range_copy(found, name, copy->to, &handle->copied) : error;
    }
    int result = log_open(handle, channel, name, &log);
    if (result < 0)
        return result;
    int64_t copied = log.is_open ? -EBUSY : log_bytes_copy(log.fd, copy);
    fd_close(&log.fd);
    return copied;
}

/* ---- the handle ---- */

static int read_channel(hf *handle, const char *name, const struct hf_start *start, unsigned mode,
                        hf_reader **ret)
{
    int error;
    const struct offline_channel *channel = find_channel(handle, name, &error);
    return channel ? offline_read(channel, start, mode, ret) : error;
}

static void close_handle(hf *handle)
{
    struct offline *offline = (struct offline *)handle;
    offline_set_free(&offline->set);
    free(offline);
}

static const struct handle_kind offline_kind = {.list = list,
                                                .read = read_channel,
                                                .log_list = log_list,
                                                .log_open = log_open,
                                                .log_find = log_find,
                                                .log_pieces = log_pieces,
                                                .log_copy = log_copy,
                                                .close = close_handle};

int hf_open_files(hf **ret, const char *const paths[], size_t count)
{
    *ret = NULL;
    problem[0] = '\0';
    struct offline *offline = calloc(1, sizeof *offline);
    if (!offline)
        return -ENOMEM;
    offline->base.kind = &offline_kind;
    int result = add_all(&offline->set, paths, count);
    if (result < 0) {
        close_handle(&offline->base);
        return result;
    }
    *ret = &offline->base;
    return 0;
}
