/* SPDX-License-Identifier: MIT */
/* What a worker or the gate says when a fatal signal hits it: written into memory that outlives it,
 * a worker's into its channel page. */
#ifndef HOLDFAST_WORKER_LAST_WORDS_H
#define HOLDFAST_WORKER_LAST_WORDS_H

#include <setjmp.h>

#include "common/channel_page.h"

/* Install the handlers, for the main thread too. Once per process, while there is time. */
void last_words_prepare(void);

/* From here on words go there. */
void last_words_open(struct last_words *place, uint64_t generation);

/* Once at the start of every thread: its role, its stack's bounds and an alternate signal stack. */
void last_words_thread(enum channel_thread thread);

/* Memory of a file that may be truncated or unreadable: while a guard is set, a SIGBUS inside
 * [start, start + size) of this thread jumps to it (sigsetjmp has returned 0 before; it then
 * returns 1). NULL start ends the guard. */
void last_words_guard(const void *start, size_t size, sigjmp_buf *jump);

#endif
