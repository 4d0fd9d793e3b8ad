/* SPDX-License-Identifier: MIT */
/* Looks for numbers that were given again: what a ring has recorded that came and went unseen, and
 * a position that a power cut has taken back. live_ring.c says when there is reason to. Called by
 * the log's reader, from inside hf_next(), which must not wait. */
#include "common/client/reader_anew.h"

#include <errno.h>

#include "common/avro_log_header.h"
#include "common/client/live_state.h"
#include "common/client/reader_link.h"
#include "common/client/live_ring.h"
#include "common/client/reader_search.h"
#include "common/fd.h"

/* A file that only says which numbers were given gives none again. */
static bool has_no_records(int fd)
{
    struct avro_log_identity identity;
    const char *what;
    return avro_log_load_header(fd, &identity, &what) > 0 && identity.has_totals &&
           identity.totals.records == 0;
}

/* MORE: it is known. */
static int answered_back(struct live_reader *reader, int error)
{
    int fd = fd_take(&reader->link.found_fd);
    const uint64_t first_seq = reader->link.found.first_seq;
    const bool is_empty = error == 0 && has_no_records(fd);
    fd_close(&fd);
    if (error < 0 && error != -ENOENT) {
        reader_search_in_vain(reader);
        return error == -EIO || error == -EACCES ? error : HF_NONE;
    }
    reader_search_succeeded(reader);
    if (is_empty && first_seq >= reader->look_from && first_seq < AVRO_LOG_SEQ_MAX) {
        reader->look_from = first_seq + 1; /* what is behind it? */
        return HF_NONE;
    }
    if (error == 0)
        live_ring_found_behind(reader, first_seq);
    reader->looks_back = reader->search.asks_back = false;
    return MORE;
}

/* A ring may have come and gone unseen, and what it has recorded lies in files: is there one that
 * begins behind those of the rings that were seen, with a number that was passed? */
static int look_back(struct live_reader *reader)
{
    struct live_search *search = &reader->search;
    struct reader_link *link = &reader->link;
    int error, result = HF_NONE;
    if (!search->asks_back) {
        reader_link_forget(link, ASK_FIND);
        reader_search_succeeded(reader);
        search->asks_back = true;
    }
    live_ring_pump(reader);
    if (reader_link_take(link, ASK_FIND, &error))
        result = answered_back(reader, error);
    if (result != HF_NONE)
        return result;
    const uint64_t from = reader->look_from;
    return reader_search_ask(reader, &(struct read_find){.by = from > 0 ? READ_AFTER : READ_FIRST,
                                                         .seq = from > 0 ? from - 1 : 0});
}

/* Asked once more than needed where the connection has just been made anew. */
static int ask_position(struct live_reader *reader)
{
    struct reader_link *link = &reader->link;
    live_ring_pump(reader);
    if (!reader->asks_position)
        return MORE;
    if (reader->position_again_at.ns && monotonic_now().ns < reader->position_again_at.ns) {
        reader_link_wake_at(link, reader->position_again_at);
        return HF_NONE;
    }
    if (link->attached_now && link->questions[ASK_CLAIM].request == 0)
        reader_link_ask(link, ASK_CLAIM, &link->claim);
    return HF_NONE;
}

int reader_anew_look(struct live_reader *reader)
{
    int result = MORE;
    if (reader->asks_position)
        result = ask_position(reader);
    if (result == MORE && reader->looks_back)
        result = look_back(reader);
    return result;
}
