/* SPDX-License-Identifier: MIT */
/* A gate for tests of the library: a thread that speaks the read protocol on a socket of its own,
 * lends what the test has made, and can be told to misbehave. One channel, RING_FIXTURE_CHANNEL. */
#ifndef HOLDFAST_TESTS_LIB_FAKE_GATE_H
#define HOLDFAST_TESTS_LIB_FAKE_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/read_protocol.h"

#define FAKE_GATE_CONNECTIONS 16
#define FAKE_GATE_SEGMENTS    64
#define FAKE_GATE_POSITIONS   160

struct ring_fixture;

struct outbox_fixture;

struct fake_segment {
    char path[128];
    uint64_t first_seq;
    bool is_open;
};

struct fake_connection {
    int fd; /* -1: free */
    bool attached;
    bool armed;
    struct read_arm arm;
    char position[READ_POSITION_SIZE]; /* "" = holds none */
};

/* Everything may be changed while it runs, with the lock held. */
struct fake_gate {
    pthread_mutex_t lock;
    pthread_t thread;
    char folder[64];
    char socket[96];
    int listening;
    bool stop;

    struct ring_fixture *ring; /* NULL: there is none now */
    uint64_t ring_number;
    bool records;
    struct fake_segment segments[FAKE_GATE_SEGMENTS];
    size_t segment_count;
    size_t channel_count; /* in the list: RING_FIXTURE_CHANNEL, then c001, c002 ... */
    struct read_position_entry positions[FAKE_GATE_POSITIONS];
    size_t position_count;

    /* Sends as much as anybody takes, all the time: READ_WOKEN, or what nobody has asked for.
     * Changed without the lock. 0 = nothing. */
    _Atomic(enum read_type) flood;
    atomic_bool is_full;              /* nobody takes more of it just now */
    bool endless;                     /* a list of channels always goes on with the same ones */
    bool deaf;                        /* takes requests and answers nothing */
    bool drop_once;                   /* ends the connection at the next request that comes */
    unsigned turns_away;              /* so many connections are told EBUSY, and closed */
    struct outbox_fixture *outbox;    /* the next PUBLISH gets it; NULL: is refused with EAGAIN */
    int publish_error;                /* errno that every PUBLISH is refused with */
    int find_error;                   /* errno that every FIND is refused with */
    int greet_error;                  /* likewise HELLO */
    unsigned requests[READ_LIST_MAX]; /* that have come, by type */
    uint64_t progress;

    struct fake_connection connections[FAKE_GATE_CONNECTIONS];
};

void fake_gate_start(struct fake_gate *gate);
void fake_gate_stop(struct fake_gate *gate);

/* As if it had died: every connection ends; the socket stays, and is served by its successor. */
void fake_gate_kill(struct fake_gate *gate);

/* How many requests of this type have come so far? */
unsigned fake_gate_count(struct fake_gate *gate, enum read_type type);

#endif
