/* SPDX-License-Identifier: MIT */
/* A publisher with its outbox, for tests of who takes from it. */
#ifndef HOLDFAST_TESTS_LIB_PUBLISHER_FIXTURE_H
#define HOLDFAST_TESTS_LIB_PUBLISHER_FIXTURE_H

#include "common/outbox.h"
#include "tests/lib/outbox_fixture.h"

struct publisher_fixture {
    struct outbox_fixture outbox; /* nobody takes from it here: its consumer is not used */
    int fds[OUTBOX_FDS];          /* the daemon's: box, answer, bell, call */
    struct outbox_map map;        /* the publisher's */
    struct outbox_producer producer;
    struct outbox_answer *said; /* as the daemon writes it */
};

void publisher_fixture_open(struct publisher_fixture *fixture, uint64_t id, uint32_t max_datagram,
                            const char *name);
void publisher_fixture_hang_up(struct publisher_fixture *fixture);
void publisher_fixture_close(struct publisher_fixture *fixture);

/* Commit one of these bytes; it must fit. Calls the worker where it has to be. */
void publisher_fixture_commit(struct publisher_fixture *fixture, const void *payload,
                              uint32_t length);

/* Has the bell been rung since this was asked last? */
bool publisher_fixture_was_rung(struct publisher_fixture *fixture);

#endif
