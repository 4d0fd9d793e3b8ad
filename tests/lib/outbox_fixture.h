/* SPDX-License-Identifier: MIT */
/* An outbox as the supervisor makes it, for tests, with its publisher's side mapped. */
#ifndef HOLDFAST_TESTS_LIB_OUTBOX_FIXTURE_H
#define HOLDFAST_TESTS_LIB_OUTBOX_FIXTURE_H

#include "common/outbox.h"

struct outbox_fixture {
    int fds[OUTBOX_FDS];   /* the daemon's: box, answer, bell, call */
    int bell;              /* the publisher's end; -1 when it has hung up */
    struct outbox_map map; /* the publisher's */
    struct outbox_producer producer;
    struct outbox_answer *said; /* as the daemon writes it */
};

struct outbox_fixture_settings {
    uint64_t id;
    uint64_t capacity; /* a power of two */
    uint32_t max_datagram;
    const char *name;
};

void outbox_fixture_open(struct outbox_fixture *fixture,
                         const struct outbox_fixture_settings *settings);
void outbox_fixture_hang_up(struct outbox_fixture *fixture);
void outbox_fixture_close(struct outbox_fixture *fixture);

/* Commit one of these bytes; it must fit. Calls the worker where it has to be. */
void outbox_fixture_commit(struct outbox_fixture *fixture, const void *payload, uint32_t length);

/* Has the bell been rung since this was asked last? */
bool outbox_fixture_was_rung(struct outbox_fixture *fixture);

#endif
