/* SPDX-License-Identifier: MIT */
/* A real outbox, with the test in the supervisor's place and in the worker's. */
#ifndef HOLDFAST_TESTS_LIB_OUTBOX_FIXTURE_H
#define HOLDFAST_TESTS_LIB_OUTBOX_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/outbox.h"

#define OUTBOX_FIXTURE_CAPACITY CHANNEL_OUTBOX_SIZE_MIN
#define OUTBOX_FIXTURE_MAX      2048u /* bytes of a datagram */

struct outbox_fixture {
    int box, answer, bell, call; /* the worker's */
    int lent_answer, lent_bell;  /* the publisher's, besides the box */
    struct outbox_map map;       /* as the worker has it */
    struct outbox_consumer consumer;
    uint64_t taken; /* datagrams */
};

/* The number in its answer; and whether the channel records. */
void outbox_fixture_make(struct outbox_fixture *fixture, uint64_t id, bool records);
/* What the publisher is to be sent: box, answer, bell, call. */
void outbox_fixture_lend(const struct outbox_fixture *fixture, int ret_fds[OUTBOX_FDS]);
/* It has been sent: its end of the bell is its own now. */
void outbox_fixture_let_go(struct outbox_fixture *fixture);

/* As the worker: the next datagram into `ret`, and say that it is taken. Its length; -1 = there is
 * none. Nonsense ends the test. */
int64_t outbox_fixture_take(struct outbox_fixture *fixture, void *ret, size_t size);
void outbox_fixture_say_durable(struct outbox_fixture *fixture, uint64_t count);
void outbox_fixture_ring(struct outbox_fixture *fixture);
/* How often the publisher has called since this was asked last. */
int outbox_fixture_calls(struct outbox_fixture *fixture);

/* The daemon lets go of it. */
void outbox_fixture_free(struct outbox_fixture *fixture);

#endif
