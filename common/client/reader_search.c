/* SPDX-License-Identifier: MIT */
/* Paces what a reader of the log asks the gate for. Called by those who look for files, from inside
 * hf_next(). Must never ask without end, and never leave the reader without a timer where nothing
 * else would wake it. */
#include "common/client/reader_search.h"

#include "common/client/live_state.h"
#include "common/client/reader_link.h"

#define SEARCH_FIRST_NS NS_PER_MS
#define SEARCH_LAST_NS  (500 * NS_PER_MS)

bool reader_search_has_waited(const struct live_reader *reader, uint64_t ns)
{
    return reader->search.vain > 0 &&
           monotonic_since(monotonic_now(), reader->search.vain_since) >= ns;
}

void reader_search_succeeded(struct live_reader *reader)
{
    reader->search.vain = 0;
    reader->search.again_at = (monotonic){0};
}

int reader_search_in_vain(struct live_reader *reader)
{
    struct live_search *search = &reader->search;
    monotonic now = monotonic_now();
    if (search->vain == 0)
        search->vain_since = now;
    uint64_t pause = SEARCH_FIRST_NS << (search->vain < 9 ? search->vain : 9);
    search->vain++;
    search->again_at = monotonic_add(now, pause < SEARCH_LAST_NS ? pause : SEARCH_LAST_NS);
    reader_link_wake_at(&reader->link, search->again_at);
    return HF_NONE;
}

int reader_search_ask(struct live_reader *reader, const struct read_find *find)
{
    struct live_search *search = &reader->search;
    struct reader_link *link = &reader->link;
    if (search->again_at.ns && monotonic_now().ns < search->again_at.ns) {
        reader_link_wake_at(link, search->again_at);
    } else if (link->attached_now && link->questions[ASK_FIND].request == 0) {
        search->asked_seq = find->seq;
        reader_link_ask(link, ASK_FIND, find);
    }
    return HF_NONE;
}
