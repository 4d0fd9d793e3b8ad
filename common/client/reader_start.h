/* SPDX-License-Identifier: MIT */
/* Where a live reader begins: waits for the gate, so never from hf_next(). */
#ifndef HOLDFAST_COMMON_CLIENT_READER_START_H
#define HOLDFAST_COMMON_CLIENT_READER_START_H

#include "common/client/holdfast.h"
#include "common/client/reader_link.h"
#include "common/monotonic.h"

struct live_reader;

/* Connected, attached, and the position claimed if there is one to claim. 0 or -errno. */
int reader_start_attach(struct live_reader *reader, monotonic deadline);

/* next_seq becomes what this says. 0 or -errno. The deadline is for waiting: it moves by as long as
 * files were read. */
int reader_start_at(struct live_reader *reader, const struct hf_start *start, monotonic *deadline);

/* What is recorded now, without a ring that says so: everything before *ret_end, by the last file's
 * header or its last sound record. 0 or -errno. Likewise. */
int reader_start_find_end(struct live_reader *reader, uint64_t *ret_end, monotonic *deadline);

/* Ask, through a new connection where that is needed, until the answer comes. 0 or -errno, the
 * gate's or -ETIMEDOUT. */
int reader_start_ask(struct live_reader *reader, enum question question, const void *payload,
                     monotonic deadline);

#endif
