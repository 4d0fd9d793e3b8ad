/* SPDX-License-Identifier: MIT */
/* One channel behind a fake gate, its ring, and a reader of it: the scene of all tests in which
 * libholdfast follows a daemon. There is one of it in a test's process. */
#ifndef HOLDFAST_TESTS_LIB_READER_SCENE_H
#define HOLDFAST_TESTS_LIB_READER_SCENE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_header.h"
#include "common/client/holdfast.h"
#include "tests/lib/fake_gate.h"
#include "tests/lib/live_log.h"
#include "tests/lib/ring_fixture.h"

/* Until then, what is waited for has to come. */
#define READER_SCENE_PATIENCE_NS (10 * NS_PER_S)

struct reader_scene {
    struct fake_gate gate;
    struct ring_fixture ring, second_ring; /* the second: from reader_scene_change_rings() on */
    struct ring_fixture_settings settings; /* of both */
    struct live_log recorder;
    hf *handle;
    hf_reader *reader;
    struct hf_datagram datagram; /* of reader_scene_next() */
};
extern struct reader_scene scene;

/* A channel that records, or one that doesn't, and whose ring is as it is said here. */
void reader_scene_begin(void);
void reader_scene_begin_without_log(const struct ring_fixture_settings *settings);
void reader_scene_end(void);

/* The recorder's next segment, which the gate knows. */
void reader_scene_begin_segment(void);

void reader_scene_read(unsigned flags, const struct hf_start *start);
void reader_scene_close_reader(void);

/* What comes next, when it comes: it is in scene.datagram. */
int reader_scene_next(void);
/* Is scene.datagram the recorder's record with this number? */
bool reader_scene_is_record(uint64_t seq);
/* That is the recorder's record with this number; those from first up to end. */
void reader_scene_expect_record(uint64_t seq);
void reader_scene_expect_records(uint64_t first, uint64_t end);
void reader_scene_expect_lost(uint64_t seq, uint64_t count, enum hf_why why);
/* The descriptor tells that there is something. */
void reader_scene_expect_wake(void);
/* How many requests of this type come within two seconds in which a program does what its
 * descriptor tells it to do? */
unsigned reader_scene_count_requests(enum read_type type);
/* Caught up: nothing comes, and nothing wakes it. */
void reader_scene_expect_silence(void);
/* The same, for a moment: where that is asked for often. */
void reader_scene_expect_nothing_yet(void);

/* So many records are in one sealed file, and nobody writes any more. */
void reader_scene_leave_log(unsigned count);
/* A power cut takes a log's end, and 6 is given again by the second ring, which is not lent yet; 10
 * was saved as done with, in the position where `mine` starts. */
void reader_scene_lose_what_was_done_with(const struct hf_start *mine);
/* One more ring like the first one; the caller's to close. */
void reader_scene_open_ring(struct ring_fixture *ret, uint64_t start_seq, uint64_t pair);

/* Everything of the channel was stopped at `end`; the second ring is there, and not lent yet. */
void reader_scene_change_rings(uint64_t end, uint64_t start_seq);
/* What the gate lends from now on; NULL: none. */
void reader_scene_lend(struct ring_fixture *lent, uint64_t number);

/* The channel has a record section from now on, or none. */
void reader_scene_set_records(bool records);
/* So many datagrams in a ring; those come out of it. */
void reader_scene_publish(struct ring_fixture *ring, unsigned count);
void reader_scene_expect_from_ring(uint64_t first, uint64_t end);

/* A joined reader has had ten records and is live. */
void reader_scene_go_live(void);

/* What the header of the last segment says that is in it. */
void reader_scene_say_totals(const struct avro_log_totals *totals);
/* There is no ring. The last segment is finished, its header says that it has ten records, and the
 * tenth is damaged. */
void reader_scene_damage_the_end(void);

/* A joined reader has had ten records and is live; the five that follow were lost at the log's end,
 * and it was told. */
void reader_scene_lose_the_end(void);
/* Then everything has died, and another ring gives their numbers again, to three records. */
void reader_scene_begin_anew(void);

#endif
