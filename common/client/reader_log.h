/* SPDX-License-Identifier: MIT */
/* What a live reader gets out of the log. */
#ifndef HOLDFAST_COMMON_CLIENT_READER_LOG_H
#define HOLDFAST_COMMON_CLIENT_READER_LOG_H

#include <stdbool.h>

#include "common/client/holdfast.h"

struct live_reader;

/* As hf_next(): what comes at next_seq. */
int reader_log_next(struct live_reader *reader, struct hf_datagram *ret);

/* Begin to read the segment that the gate has found (reader->link.found), at its start. 0; -EAGAIN
 * when nobody can say yet how far it may be read; or -errno. patient: it was waited for long enough
 * that somebody says it, so what is sound counts. */
int reader_log_enter(struct live_reader *reader, bool patient);

/* Let go of everything that isn't next_seq. */
void reader_log_leave(struct live_reader *reader);

#endif
