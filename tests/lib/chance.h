/* SPDX-License-Identifier: MIT */
/* A recorder, a gate and rings that do at random what they can do: on top of the reader's scene,
 * which must have begun. Keeps the books of what has become of every number, and a history of the
 * last steps. There is one of it in a test's process. */
#ifndef HOLDFAST_TESTS_LIB_CHANCE_H
#define HOLDFAST_TESTS_LIB_CHANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/fake_gate.h"
#include "tests/lib/ring_fixture.h"

#define CHANCE_NUMBERS 8192 /* more than a scene of some hundred steps gives */
#define CHANCE_RINGS   32

/* What has become of a number. */
enum chance_fate {
    CHANCE_NOT_YET,  /* nobody has given it, or it is to be given again */
    CHANCE_RECORDED, /* and a file has it */
    CHANCE_EXPIRED,  /* recorded, and the gate doesn't find it any more */
    CHANCE_LOST      /* received, and not recorded */
};

/* How a segment was ended, if it was. */
struct chance_ended {
    uint64_t length;
    bool is_empty;
};

struct chance {
    uint64_t random;
    /* After a ring has died, nobody knows of what was lost at the log's end: its successor gives
     * these numbers again. Else it goes on behind them. */
    bool gives_again;
    /* The log tells that the numbers before it were given: a segment or a ring began there. */
    uint64_t known_end;
    uint64_t anew_from; /* the lowest number that was given again; UINT64_MAX: none was */
    uint64_t end_ever;  /* behind the highest number that was ever given */
    enum chance_fate fates[CHANCE_NUMBERS];
    bool was_lost[CHANCE_NUMBERS];           /* by a ring that has died since */
    struct ring_fixture rings[CHANCE_RINGS]; /* behind the scene's own one */
    unsigned ring_count;
    struct ring_fixture *ring; /* the present one, */
    bool is_lent;
    bool is_unnamed; /* the gate doesn't know the present segment yet */
    bool is_failing; /* the disk takes nothing any more, as long as there is this ring */
    bool is_in_vain; /* a record is written, and its worker has died before it was committed */
    bool is_empty;   /* the ring's last segment has no record yet */
    struct chance_ended ended[FAKE_GATE_SEGMENTS]; /* beside the gate's segments */
};
extern struct chance chance;

void chance_begin(uint64_t seed, bool gives_again);
/* Nobody may read any more. */
void chance_end(void);

/* 0 ... count - 1, each as likely as the others. */
uint64_t chance_below(uint64_t count);
/* Once in so many times. */
bool chance_one_in(unsigned times);

/* Something happens, or nothing. */
void chance_step(void);
void chance_lend(void);
void chance_stop_lending(void);
/* If there is a segment: a worker dies between a record and its commit. */
void chance_write_in_vain(void);
/* The last records come, and everything is as it is when nothing happens any more. */
void chance_come_to_rest(void);

/* Behind the last number that was given. */
uint64_t chance_end_seq(void);
/* The first number of the oldest segment, and of the newest one, that the gate finds. */
uint64_t chance_oldest_seq(void);
uint64_t chance_newest_seq(void);

/* One more line of the history. */
void chance_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for one more datagram that has come; those in a row share a line. */
void chance_note_given(uint64_t seq);
void chance_print_history(void);

#endif
