/* SPDX-License-Identifier: MIT */
/* Finds the files of a range one after the other. Called by threads of the pool and of the copier.
 * Must never read what isn't committed: what the channel's memory doesn't vouch for ends a range,
 * and its last number says so. */
#include "worker/gate/gate_range.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/client/log_piece.h"
#include "common/fd.h"
#include "worker/gate/gate_find.h"

/* Does the slot know this file? An inode number alone says little: it is given again. */
static bool limit_by_commit(const struct gate_view *view, const struct read_found *found,
                            struct segment_limit *ret)
{
    const struct commit_progress *slot = &view->commit;
    if (!view->has_commit)
        return false;
    if (slot->segment_id == found->id && slot->segment_first_seq == found->first_seq) {
        ret->end = slot->write_offset;
        ret->open_block = slot->block_start;
        return true;
    }
    if (slot->finished_id != found->id || slot->finished_length == UINT64_MAX)
        return false;
    ret->end = slot->finished_length;
    return true;
}

/* 0, or -EAGAIN: nobody says how far it may be read. */
static int find_limit(const struct gate_view *view, const struct read_found *found,
                      struct log_range_file *ret)
{
    ret->limit = (struct segment_limit){UINT64_MAX, UINT64_MAX, found->next_first_seq};
    ret->first_seq = found->first_seq;
    ret->is_unfinished = false;
    if (!found->is_open || limit_by_commit(view, found, &ret->limit))
        return 0;
    /* Another one follows: up to there, what is sound is read as recovery does it. */
    ret->is_unfinished = true;
    return found->next_first_seq != UINT64_MAX ? 0 : -EAGAIN;
}

/* Of several that begin at one number, the last one, as readers take it. */
static int find_file(const struct gate_range *range, const struct read_find *wanted,
                     struct read_found *ret, int *ret_fd)
{
    uint64_t size;
    int result = gate_find_segment(range->folder, wanted, ret, &size, ret_fd);
    if (result < 0 || ret->next_first_seq != ret->first_seq)
        return result;
    const struct read_find last = {.by = READ_BY_SEQ, .seq = ret->first_seq};
    fd_close(ret_fd);
    return gate_find_segment(range->folder, &last, ret, &size, ret_fd);
}

static int open_file(void *context, bool behind, uint64_t seq, struct log_range_file *ret)
{
    const struct gate_range *range = context;
    const struct read_find find = {.by = behind ? READ_AFTER : READ_BY_SEQ, .seq = seq};
    struct read_found found;
    int result = find_file(range, &find, &found, &ret->fd);
    if (result == 0)
        result = find_limit(&range->view, &found, ret);
    if (result < 0)
        fd_close(&ret->fd);
    /* What was begun meanwhile is behind the end of what is known. */
    return result == -EAGAIN && behind ? -ENOENT : result;
}

int gate_range_begin(struct gate_range *range, const struct read_range *wanted)
{
    const struct log_range_source source = {open_file, range};
    return log_range_open(&source, wanted->first, wanted->last, &range->log);
}

static void run_free(struct gate_job *job)
{
    struct gate_range *range = (struct gate_range *)job;
    log_range_close(range->log);
    free(range);
}

void gate_range_free(struct gate *gate, struct gate_range **range)
{
    struct gate_range *it = *range;
    *range = NULL;
    if (!it)
        return;
    gate->range_count -= it->is_counted;
    if (!it->log) {
        free(it);
        return;
    }
    it->job =
        (struct gate_job){.run = run_free, .place_busy = &gate->pool.closing_busy, .silent = true};
    gate_pool_submit(&gate->pool, &it->job, NULL);
}

int gate_range_new(struct gate *gate, const struct gate_channel *channel, bool is_sent,
                   struct gate_range **ret)
{
    *ret = NULL;
    if (is_sent && gate->range_count >= GATE_RANGES_MOST)
        return -EBUSY;
    struct gate_range *range = calloc(1, sizeof *range);
    if (!range)
        return -ENOMEM;
    range->is_counted = is_sent;
    gate->range_count += is_sent;
    range->folder = channel->folder;
    gate_channels_view(channel, &range->view);
    *ret = range;
    return 0;
}

/* ---- pieces ---- */

static void describe(const struct read_found *found, int fd, const struct log_piece *piece,
                     struct read_range_lent *ret)
{
    *ret = (struct read_range_lent){.header_length = piece->header_length,
                                    .offset = piece->offset,
                                    .length = piece->length,
                                    .first_seq = piece->first_seq,
                                    .last_seq = piece->last_seq,
                                    .next_first_seq = found->next_first_seq};
    memcpy(ret->about.name, found->name, sizeof ret->about.name);
    ret->about.first_seq = found->first_seq;
    ret->about.is_open = found->is_open;
    gate_find_describe(fd, &ret->about);
}

/* Of this file. The fd stays the caller's. */
static int find_in_file(const struct gate_range *range, const struct read_range *wanted,
                        const struct read_found *found, int fd, struct read_range_lent *ret)
{
    struct log_range_file file = {.fd = fd};
    struct log_piece piece;
    int result = find_limit(&range->view, found, &file);
    if (result == 0 && file.is_unfinished)
        result = -EAGAIN; /* where its blocks end is for recovery to say */
    if (result == 0)
        result = log_piece_find(&file, wanted->first, wanted->last, &piece);
    if (result == 0)
        describe(found, fd, &piece, ret);
    return result;
}

int gate_range_find_piece(const struct gate_range *range, const struct read_range *wanted,
                          struct read_range_lent *ret, int *ret_fd)
{
    struct read_find find = {.by = wanted->by, .seq = wanted->seq};
    for (;;) {
        struct read_found found;
        int result = find_file(range, &find, &found, ret_fd);
        if (result < 0)
            return result;
        if (found.first_seq > wanted->last)
            result = -ENOENT;
        else
            result = find_in_file(range, wanted, &found, *ret_fd, ret);
        if (result == 0)
            return 0;
        fd_close(ret_fd);
        if (result != -ENOENT || found.next_first_seq > wanted->last ||
            found.next_first_seq <= found.first_seq)
            return result;
        find = (struct read_find){.by = READ_AFTER, .seq = found.first_seq};
    }
}
