/* SPDX-License-Identifier: MIT */
/* The test in the place of a child of the supervisor: a real process runs, which only waits, and
 * the test has its end of the socket. One at a time. */
#ifndef HOLDFAST_TESTS_LIB_PLAYED_CHILD_H
#define HOLDFAST_TESTS_LIB_PLAYED_CHILD_H

#include <stddef.h>

#include "common/message.h"

struct child;

/* Before the first one: its end is this process's to wait for, and it waits at its stdin. */
void played_child_prepare(void);
#define PLAYED_CHILD_PROGRAM "/bin/cat" /* for program.worker_path */

/* From here on it is this one. */
void played_child_take(struct child *child);
/* Nothing is open any more; also when there was none. */
void played_child_leave(void);

/* What it is told next, which must be of this type. Valid until the next call. */
struct message *played_child_hears(enum message_type type);
void played_child_hears_nothing(void);
/* What it says is heard at once. */
void played_child_says(struct child *child, enum message_type type, const void *payload,
                       size_t size);
/* The same, by its socket. */
void played_child_sends(const struct child *child, enum message_type type, const void *payload,
                        size_t size);

#endif
