/* SPDX-License-Identifier: MIT */
/* Goes through a channel's files for a range. Called by offline.c. */
#include "common/client/offline_range.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/client/log_piece.h"
#include "common/client/log_pieces.h"
#include "common/fd.h"

static int open_at(const struct offline_channel *channel, size_t at, struct log_range_file *ret)
{
    const struct offline_file *file = &channel->files[at];
    uint64_t next = at + 1 < channel->count ? channel->files[at + 1].first_seq : UINT64_MAX;
    /* Where the one before has numbers of this one, too, it is read first, as far as it goes. */
    if (next <= file->first_seq || file->end_seq > next)
        next = UINT64_MAX;
    *ret = (struct log_range_file){.fd = offline_file_open(file),
                                   .is_unfinished = file->open,
                                   .first_seq = file->first_seq,
                                   .limit = {UINT64_MAX, UINT64_MAX, next}};
    return ret->fd < 0 ? ret->fd : 0;
}

struct files {
    const struct offline_channel *channel;
    size_t at;
};

static int open_file(void *context, bool behind, uint64_t seq, struct log_range_file *ret)
{
    struct files *files = context;
    files->at = behind ? files->at + 1 : offline_channel_find_seq(files->channel, seq);
    return files->at < files->channel->count ? open_at(files->channel, files->at, ret) : -ENOENT;
}

int offline_range_pieces(const struct offline_channel *channel, const struct log_name *name,
                         struct hf_log_piece **ret, size_t *ret_count)
{
    int result = 0;
    for (size_t i = offline_channel_find_seq(channel, name->seq);
         i < channel->count && channel->files[i].first_seq <= name->last_seq && result >= 0; i++) {
        struct hf_log_piece piece = {0};
        struct log_range_file file;
        struct log_piece found;
        result = open_at(channel, i, &file);
        if (result < 0)
            break;
        result = log_piece_find(&file, name->seq, name->last_seq, &found);
        if (result < 0) {
            fd_close(&file.fd);
            result = result == -ENOENT ? 0 : result;
            continue;
        }
        snprintf(piece.log.name, sizeof piece.log.name, "%s", channel->files[i].name);
        piece.log.first_seq = file.first_seq;
        piece.log.fd = file.fd;
        piece.header_length = found.header_length;
        piece.offset = found.offset;
        piece.length = found.length;
        piece.first_seq = found.first_seq;
        piece.last_seq = found.last_seq;
        result = log_pieces_add(ret, ret_count, &piece);
    }
    if (result == 0 && *ret_count == 0)
        result = -ENOENT;
    if (result < 0) {
        log_pieces_free(ret, *ret_count);
        *ret_count = 0;
    }
    return result;
}

int64_t offline_range_copy(const struct offline_channel *channel, const struct log_name *name,
                           int to, struct hf_log_range *ret)
{
    struct files files = {.channel = channel};
    const struct log_range_source source = {open_file, &files};
    return log_pieces_copy(&source, name, to, ret);
}
