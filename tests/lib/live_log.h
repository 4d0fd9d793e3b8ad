/* SPDX-License-Identifier: MIT */
/* A recorder for tests of readers: writes files of log_maker's records in the recorder's order,
 * commits in a ring's page, and tells a fake gate of the files. */
#ifndef HOLDFAST_TESTS_LIB_LIVE_LOG_H
#define HOLDFAST_TESTS_LIB_LIVE_LOG_H

#include "common/channel_page.h"
#include "tests/lib/fake_gate.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/ring_fixture.h"

#define LIVE_LOG_SEED 4711

struct live_log {
    struct fake_gate *gate;
    struct channel_page *page; /* of the ring that it commits in */
    struct log_maker maker;
    int fd; /* of the segment that is written; -1 = none */
    char path[128];
    struct commit_progress commit;
    unsigned files;
};

/* Nothing is recorded yet; the commit slot says so. */
void live_log_open(struct live_log *log, struct fake_gate *gate, struct ring_fixture *ring,
                   uint64_t first_seq);
void live_log_close(struct live_log *log);

/* End the segment, if there is one, and begin another one, which has its name only after
 * live_log_name(). */
void live_log_roll(struct live_log *log);
/* The gate finds the present segment from here on. */
void live_log_name(struct live_log *log);
/* The gate's segment with this index becomes a sealed one of this length. */
void live_log_seal(struct live_log *log, size_t index, uint64_t length);
void live_log_append(struct live_log *log, unsigned count);
/* So many were received and not recorded. */
void live_log_lose(struct live_log *log, uint64_t count);
/* Write a record, and die before it is committed. */
void live_log_write_in_vain(struct live_log *log);
/* The segment can't be written any more. */
void live_log_give_up(struct live_log *log);
/* The log goes on in another ring, which knows nothing of the one before. */
void live_log_move(struct live_log *log, struct ring_fixture *ring, uint64_t next_seq);

#endif
