/* SPDX-License-Identifier: MIT */
/* The public functions that both kinds of handles have: they check what a program passes, keep the
 * lists of readers and writers, and hand on to the kind. Must never reach a kind with arguments
 * that it need not understand. */
#include "common/client/holdfast.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "common/client/client.h"
#include "common/client/log_pieces.h"
#include "common/monotonic.h"

#define MODE_MASK 7u

hf *hf_close(hf *handle)
{
    if (!handle)
        return NULL;
    while (handle->readers)
        hf_reader_close(handle->readers);
    while (handle->writers)
        hf_writer_close(handle->writers);
    handle->kind->close(handle);
    return NULL;
}

int hf_list(hf *handle, struct hf_channel **ret, size_t *ret_count)
{
    *ret = NULL;
    *ret_count = 0;
    return handle->kind->list(handle, ret, ret_count);
}

int hf_log_list(hf *handle, const char *channel, struct hf_log **ret, size_t *ret_count)
{
    *ret = NULL;
    *ret_count = 0;
    return handle->kind->log_list(handle, channel, ret, ret_count);
}

/* All digits, and within the range of a number; false otherwise. */
static bool parse_number(const char *text, uint64_t *ret)
{
    uint64_t value = 0;
    if (!text[0])
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > (UINT64_MAX - 9) / 10)
            return false;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *ret = value;
    return true;
}

/* Seconds with at most nine digits behind the point. */
static bool parse_time(const char *text, int64_t *ret_ns)
{
    char seconds[24];
    const char *point = strchr(text, '.');
    const size_t length = point ? (size_t)(point - text) : strlen(text);
    uint64_t whole, part = 0;
    if (length >= sizeof seconds)
        return false;
    memcpy(seconds, text, length);
    seconds[length] = '\0';
    if (!parse_number(seconds, &whole))
        return false;
    if (whole > INT64_MAX / NS_PER_S - 1)
        whole = INT64_MAX / NS_PER_S - 1; /* nothing is as late */
    const size_t digits = point ? strlen(point + 1) : 0;
    if (point && (digits > 9 || !parse_number(point + 1, &part)))
        return false;
    for (size_t i = digits; i < 9; i++)
        part *= 10;
    *ret_ns = (int64_t)(whole * NS_PER_S + part);
    return true;
}

/* "A..B", of which `text` is changed. */
static int parse_range(char *text, struct log_name *ret)
{
    char *dots = strstr(text, "..");
    *dots = '\0';
    ret->by = LOG_RANGE;
    return parse_number(text, &ret->seq) && parse_number(dots + 2, &ret->last_seq) &&
                   ret->seq <= ret->last_seq
               ? 0
               : -EINVAL;
}

static int parse_numbers(const char *text, struct log_name *ret)
{
    char range[2 * 20 + 3]; /* two numbers, and what is between and behind them */
    ret->by = LOG_BY_SEQ;
    if (!strstr(text, ".."))
        return parse_number(text, &ret->seq) ? 0 : -EINVAL;
    if (strlen(text) >= sizeof range)
        return -EINVAL;
    return parse_range(strcpy(range, text), ret);
}

static int parse_log_name(const char *name, struct log_name *ret)
{
    *ret = (struct log_name){.by = LOG_BY_NAME, .name = name};
    if (strcmp(name, "first") == 0 || strcmp(name, "last") == 0) {
        ret->by = name[0] == 'f' ? LOG_FIRST : LOG_LAST;
    } else if (strncmp(name, "seq:", 4) == 0) {
        return parse_numbers(name + 4, ret);
    } else if (name[0] == '@') {
        ret->by = LOG_BY_TIME;
        return parse_time(name + 1, &ret->time_ns) ? 0 : -EINVAL;
    }
    return 0;
}

int hf_log_find(hf *handle, const char *channel, const char *name, struct hf_log *ret)
{
    struct log_name wanted;
    *ret = (struct hf_log){.fd = -1};
    int result = name ? parse_log_name(name, &wanted) : -EINVAL;
    if (result < 0 || wanted.by == LOG_RANGE)
        return -EINVAL;
    return handle->kind->log_find(handle, channel, &wanted, ret);
}

int hf_log_pieces(hf *handle, const char *channel, const char *name, struct hf_log_piece **ret,
                  size_t *ret_count)
{
    struct log_name wanted;
    *ret = NULL;
    *ret_count = 0;
    int result = name ? parse_log_name(name, &wanted) : -EINVAL;
    if (result < 0 || wanted.by != LOG_RANGE)
        return -EINVAL;
    return handle->kind->log_pieces
               ? handle->kind->log_pieces(handle, channel, &wanted, ret, ret_count)
               : -EOPNOTSUPP;
}

static int open_only_piece(hf *handle, const char *channel, const char *name, struct hf_log *ret)
{
    struct hf_log_piece *pieces;
    size_t count;
    int result = hf_log_pieces(handle, channel, name, &pieces, &count);
    if (result == 0 && count == 1) {
        *ret = pieces[0].log;
        pieces[0].log.fd = -1;
    } else if (result == 0) {
        result = -E2BIG;
    }
    log_pieces_free(&pieces, count);
    return result;
}

int hf_log_open(hf *handle, const char *channel, const char *name, struct hf_log *ret)
{
    struct log_name wanted;
    *ret = (struct hf_log){.fd = -1};
    int result = name ? parse_log_name(name, &wanted) : -EINVAL;
    if (result == 0 && wanted.by == LOG_RANGE)
        return open_only_piece(handle, channel, name, ret);
    return result < 0 ? result : handle->kind->log_open(handle, channel, &wanted, ret);
}

int64_t hf_log_copy(hf *handle, const char *channel, const char *name, int to, uint64_t offset,
                    uint64_t length, unsigned how)
{
    const struct log_copy copy = {.to = to, .offset = offset, .length = length, .how = how};
    struct log_name wanted;
    if (!name || to < 0 || how > HF_BY_SPLICE || offset > INT64_MAX || length > INT64_MAX)
        return -EINVAL;
    int result = parse_log_name(name, &wanted);
    if (result == 0 && wanted.by == LOG_RANGE) {
        handle->copied = (struct hf_log_range){0};
        if (offset || length)
            return -EINVAL;
    }
    return result < 0 ? result : handle->kind->log_copy(handle, channel, &wanted, &copy);
}

int hf_log_copied(hf *handle, struct hf_log_range *ret)
{
    *ret = handle->copied;
    return ret->records > 0 ? 0 : -ENODATA;
}

int hf_position_list(hf *handle, const char *channel, struct hf_position **ret, size_t *ret_count)
{
    *ret = NULL;
    *ret_count = 0;
    if (!handle->kind->position_list)
        return -EOPNOTSUPP;
    return handle->kind->position_list(handle, channel, ret, ret_count);
}

int hf_forget(hf *handle, const char *channel, const char *position)
{
    if (!channel || !position)
        return -EINVAL;
    return handle->kind->forget ? handle->kind->forget(handle, channel, position) : -EOPNOTSUPP;
}

int hf_connection_list(hf *handle, struct hf_connection **ret, size_t *ret_count)
{
    *ret = NULL;
    *ret_count = 0;
    if (!handle->kind->connection_list)
        return -EOPNOTSUPP;
    return handle->kind->connection_list(handle, ret, ret_count);
}

static bool is_start(const struct hf_start *start)
{
    if (start->at < HF_FIRST || start->at > HF_POSITION)
        return false;
    if (start->at == HF_POSITION && !start->position)
        return false;
    return !start->position || (start->position[0] && strlen(start->position) < HF_NAME_SIZE);
}

int hf_read(hf *handle, const char *channel, const struct hf_start *start, unsigned flags,
            hf_reader **ret)
{
    const unsigned mode = flags & MODE_MASK;
    *ret = NULL;
    if ((flags & ~(MODE_MASK | HF_STRICT | HF_COPY)) || mode < HF_OLD || mode > HF_NEWEST ||
        (start && !is_start(start)))
        return -EINVAL;
    const struct hf_start usual = {.at = mode == HF_NEW || mode == HF_NEWEST ? HF_END : HF_FIRST};
    hf_reader *reader = NULL;
    int result = handle->kind->read(handle, channel, start ? start : &usual, mode, &reader);
    if (result < 0)
        return result;
    reader->handle = handle;
    reader->mode = mode;
    reader->strict = flags & HF_STRICT;
    reader->following = handle->readers;
    if (handle->readers)
        handle->readers->previous = reader;
    handle->readers = reader;
    *ret = reader;
    return 0;
}

hf_reader *hf_reader_close(hf_reader *reader)
{
    if (!reader)
        return NULL;
    if (reader->previous)
        reader->previous->following = reader->following;
    else
        reader->handle->readers = reader->following;
    if (reader->following)
        reader->following->previous = reader->previous;
    reader->kind->close(reader);
    return NULL;
}

int hf_next(hf_reader *reader, struct hf_datagram *ret)
{
    if (reader->strict && reader->lost)
        return -ENODATA;
    int result = reader->kind->next(reader, ret);
    if (result == HF_LOST)
        reader->lost = 1;
    return result;
}

int hf_reader_fd(hf_reader *reader)
{
    return reader->kind->fd ? reader->kind->fd(reader) : -EOPNOTSUPP;
}

int hf_check(hf_reader *reader, const struct hf_datagram *datagram)
{
    return reader->kind->check ? reader->kind->check(reader, datagram) : 1;
}

int hf_seek(hf_reader *reader, const struct hf_start *start)
{
    if (!start || !is_start(start))
        return -EINVAL;
    int result = reader->kind->seek(reader, start);
    if (result >= 0)
        reader->lost = 0;
    return result;
}

int hf_save(hf_reader *reader, uint64_t done_before)
{
    return reader->kind->save ? reader->kind->save(reader, done_before) : -EOPNOTSUPP;
}

int hf_lag(hf_reader *reader, struct hf_lag *ret)
{
    return reader->kind->lag(reader, ret);
}

int hf_publish(hf *handle, const char *channel, hf_writer **ret)
{
    hf_writer *writer = NULL;
    *ret = NULL;
    if (!channel)
        return -EINVAL;
    int result =
        handle->kind->publish ? handle->kind->publish(handle, channel, &writer) : -EOPNOTSUPP;
    if (result < 0)
        return result;
    writer->handle = handle;
    writer->following = handle->writers;
    if (handle->writers)
        handle->writers->previous = writer;
    handle->writers = writer;
    *ret = writer;
    return 0;
}

hf_writer *hf_writer_close(hf_writer *writer)
{
    if (!writer)
        return NULL;
    if (writer->previous)
        writer->previous->following = writer->following;
    else
        writer->handle->writers = writer->following;
    if (writer->following)
        writer->following->previous = writer->previous;
    writer->close(writer);
    return NULL;
}
