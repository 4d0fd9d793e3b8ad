/* SPDX-License-Identifier: MIT */
/* Asks the gate for records by number: file by file, or as one file out of a pipe. Called by
 * live.c. What a gate that died has sent is never added to by the next one: the file would be
 * none. */
#include "common/client/live_range.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/client/gate_link.h"
#include "common/client/live_log.h"
#include "common/client/log_bytes.h"
#include "common/client/log_pieces.h"
#include "common/fd.h"

#define AGAIN_MS            20

#define COPY_TEXT(to, from) snprintf((to), sizeof(to), "%s", (from))

static int ask_once(struct live *live, const struct read_range *range)
{
    const struct live_request request = {READ_RANGE, READ_RANGE_LENT, range, sizeof *range};
    int result = live_ask(live, &request);
    if (result == 0 && (live->fd < 0) != !!live->stream)
        result = -EPROTO;
    if (result == -ETIMEDOUT || result == -EPROTO)
        live_disconnect(live); /* what it sends later is nobody's */
    return result;
}

/* A file may just be being begun or sealed, and others be sent to. */
static int ask(struct live *live, const struct read_range *range)
{
    const monotonic until = monotonic_add(monotonic_now(), GATE_PATIENCE_NS);
    int result;
    while (((result = ask_once(live, range)) == -EAGAIN || result == -EBUSY) &&
           monotonic_now().ns < until.ns)
        poll(NULL, 0, AGAIN_MS);
    return result;
}

/* ---- pieces ---- */

struct pieces {
    struct live *live;
    struct read_range range; /* what is asked for next */
    uint64_t seq_end;        /* records from there on are the next one's */
    bool at_end;
};

static void describe(const struct pieces *it, struct hf_log_piece *ret)
{
    const struct read_range_lent *lent = it->live->packet.range_lent;
    *ret = (struct hf_log_piece){.header_length = lent->header_length,
                                 .offset = lent->offset,
                                 .length = lent->length,
                                 .first_seq = lent->first_seq,
                                 .last_seq = lent->last_seq};
    live_log_describe(&lent->about, &ret->log);
    COPY_TEXT(ret->log.channel, it->range.channel);
    ret->log.fd = fd_take(&it->live->fd);
}

/* The next one; -ENOENT: there are no more. */
static int next_piece(struct pieces *it, struct hf_log_piece *ret)
{
    int result = it->at_end ? -ENOENT : ask(it->live, &it->range);
    if (result < 0)
        return result;
    const struct read_range_lent *lent = it->live->packet.range_lent;
    if (lent->offset > INT64_MAX || lent->length > INT64_MAX - lent->offset ||
        (it->range.by == READ_AFTER && lent->about.first_seq <= it->range.seq)) {
        fd_close(&it->live->fd);
        return -EPROTO; /* with such an answer it would never end */
    }
    it->range.by = READ_AFTER;
    it->range.seq = lent->about.first_seq;
    it->seq_end = lent->next_first_seq;
    it->at_end = lent->next_first_seq > it->range.last;
    describe(it, ret);
    return 0;
}

static struct pieces begin(struct live *live, const char *channel, const struct log_name *name)
{
    struct pieces it = {.live = live,
                        .range = {.first = name->seq,
                                  .last = name->last_seq,
                                  .how = READ_FDPASS,
                                  .by = READ_BY_SEQ,
                                  .seq = name->seq}};
    COPY_TEXT(it.range.channel, channel);
    return it;
}

int live_range_pieces(struct live *live, const char *channel, const struct log_name *name,
                      struct hf_log_piece **ret, size_t *ret_count)
{
    struct pieces it = begin(live, channel, name);
    struct hf_log_piece piece;
    int result;
    while ((result = next_piece(&it, &piece)) == 0 &&
           (result = log_pieces_add(ret, ret_count, &piece)) == 0)
        ;
    if (result == -ENOENT && *ret_count > 0)
        return 0;
    log_pieces_free(ret, *ret_count);
    *ret_count = 0;
    return result;
}

/* ---- as one file ---- */

static int open_piece(void *context, bool behind, uint64_t seq, struct log_range_file *ret)
{
    struct pieces *it = context;
    struct hf_log_piece piece;
    (void)behind;
    (void)seq;
    int result = next_piece(it, &piece);
    if (result < 0)
        return result;
    *ret = (struct log_range_file){.fd = piece.log.fd,
                                   .first_seq = piece.log.first_seq,
                                   .limit = {piece.offset + piece.length, UINT64_MAX, it->seq_end}};
    return 0;
}

/* Of a pipe that the gate fills, or over TCP; what came is in *ret_bytes, also where it fails. */
static int receive(struct live *live, int to, struct hf_log_range *ret, uint64_t *ret_bytes)
{
    int pipe = fd_take(&live->fd);
    int result = live->stream ? live_receive_bytes(live, READ_RANGE_SENT, to, ret_bytes)
                              : log_bytes_drain(pipe, to, GATE_PATIENCE_NS, ret_bytes);
    fd_close(&pipe);
    if (result == 0 && !live->stream)
        result =
            live_receive(live, READ_RANGE_SENT, monotonic_add(monotonic_now(), GATE_PATIENCE_NS));
    if (result < 0) {
        live_disconnect(live); /* it would go on sending */
        return result;
    }
    const struct read_range_sent *sent = live->packet.range_sent;
    if (sent->error == ESHUTDOWN) {
        live_disconnect(live); /* there is another one soon */
        return -ECONNRESET;
    }
    if (sent->error)
        return gate_link_error(sent->error);
    *ret = (struct hf_log_range){sent->first_seq, sent->last_seq, sent->records};
    return sent->bytes == *ret_bytes ? 0 : -ECONNRESET;
}

int64_t live_range_send(struct live *live, const char *channel, const struct log_name *name,
                        const struct log_copy *copy)
{
    struct pieces it = begin(live, channel, name);
    struct hf_log_range told;
    uint64_t bytes = 0;
    if (copy->how == HF_BY_FD) {
        const struct log_range_source source = {open_piece, &it};
        return log_pieces_copy(&source, name, copy->to, &live->base.copied);
    }
    it.range.how = copy->how == HF_BY_SPLICE ? READ_SPLICE : READ_COPY;
    int result = ask(live, &it.range);
    if (result == 0)
        result = receive(live, copy->to, &told, &bytes);
    if (result == -ECONNRESET && bytes == 0) { /* the next gate has not been heard yet */
        result = ask(live, &it.range);
        if (result == 0)
            result = receive(live, copy->to, &told, &bytes);
    }
    if (result < 0)
        return result;
    live->base.copied = told;
    return (int64_t)bytes;
}
