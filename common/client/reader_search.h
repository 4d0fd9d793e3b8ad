/* SPDX-License-Identifier: MIT */
#ifndef HOLDFAST_COMMON_CLIENT_READER_SEARCH_H
#define HOLDFAST_COMMON_CLIENT_READER_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

struct live_reader;
struct read_find;

/* Was everything in vain for so long? */
bool reader_search_has_waited(const struct live_reader *reader, uint64_t ns);
/* Nothing that helps: ask again, ever more rarely. HF_NONE. */
int reader_search_in_vain(struct live_reader *reader);
/* What comes next is asked for at once. */
void reader_search_succeeded(struct live_reader *reader);
/* Ask the gate for a file; unless that is out already, or it was in vain just now. HF_NONE. */
int reader_search_ask(struct live_reader *reader, const struct read_find *find);

#endif
