/* SPDX-License-Identifier: MIT */
/* A real gate in a process of its own, below a temporary folder, with the test in the supervisor's
 * place, in the worker's and in the readers'. */
#ifndef HOLDFAST_TESTS_LIB_GATE_RIG_H
#define HOLDFAST_TESTS_LIB_GATE_RIG_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/message.h"
#include "common/read_protocol.h"
#include "common/read_wake.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/ring_fixture.h"

#define GATE_RIG_CHANNEL     RING_FIXTURE_CHANNEL
#define GATE_RIG_WORD        5
#define GATE_RIG_GENERATION  7
#define GATE_RIG_DEADLINE_MS 20000

struct gate_rig {
    char folder[64];   /* everything of this test */
    char log_dir[128]; /* folder/log, and the channel's folder in it: both are there */
    char channel[192];
    char log_path[128]; /* what the gate says on stderr */
    char socket_path[128];
    int supervisor; /* our end of fd 3 */
    int listening, wake, bell;
    struct read_wake_word *words;
    pid_t pid;
    const struct denied_call *denied; /* that it is to be refused; NULL = none */
    bool lends_later;                 /* the test says itself when all is lent */
    struct gate_limits limits;        /* the defaults, until the test changes them */
};

/* Starts it, and waits for READY. It is told that all channels are lent: `lends_later`. */
void gate_rig_start(struct gate_rig *rig);
/* Before that, everything but the process; messages may be queued, and `denied` set. */
void gate_rig_prepare(struct gate_rig *rig);
/* STOP, expect exit status 0, remove the folder. */
void gate_rig_end(struct gate_rig *rig);
/* Wait for its end with a deadline; the exit status, -1 if a signal ended it. */
int gate_rig_wait(struct gate_rig *rig);

/* As the supervisor. memory -1: it has no ring now. */
void gate_rig_lend(struct gate_rig *rig, const char *channel, uint64_t ring, int memory);
void gate_rig_limit(struct gate_rig *rig); /* rig->limits hold from now on */
void gate_rig_all_lent(struct gate_rig *rig);
void gate_rig_send(struct gate_rig *rig, enum message_type type, const void *payload, size_t size);
/* The next message of this type; reports that come meanwhile are passed over. Valid until the next
 * call. */
const struct message *gate_rig_receive(struct gate_rig *rig, enum message_type type);
/* GATE_ASK and its answer; it also says that all messages before it have been taken. */
const struct message_gate_report *gate_rig_report(struct gate_rig *rig);
/* Until this counter has this value. */
void gate_rig_await(struct gate_rig *rig, enum gate_counter counter, uint64_t value);

/* As a reader. */
int gate_rig_connect(const struct gate_rig *rig);
void gate_rig_request(int reader, enum read_type type, uint32_t number, const void *payload,
                      size_t size);
/* The next packet, which must be of this type. Its descriptor is to be taken before the next call,
 * which closes it. */
struct read_packet *gate_rig_answer(int reader, enum read_type type);
/* Both. */
struct read_packet *gate_rig_ask(int reader, enum read_type type, const void *payload, size_t size,
                                 enum read_type answer);
/* It must be REFUSED with this error. */
void gate_rig_refused(int reader, enum read_type type, const void *payload, size_t size, int error);
/* Nothing has come, and a question is answered: whatever was to come would have come by now. */
void gate_rig_quiet(int reader);
/* The gate ends this connection; packets that come before are passed over. */
void gate_rig_expect_end(int reader);
struct read_packet *gate_rig_attach(int reader, const char *channel, uint32_t mode);
struct read_packet *gate_rig_find(int reader, enum read_find_by by, uint64_t seq);

/* A log file of the channel with so many records; its name. open: .avro.open. */
void gate_rig_log(const struct gate_rig *rig, uint64_t first_seq, int records, bool open,
                  char ret_name[SEGMENT_NAME_SIZE]);
/* The same for a time: sealed with totals, records from time_ns on, one second each. */
void gate_rig_timed_log(const struct gate_rig *rig, uint64_t first_seq, int records,
                        uint64_t time_ns, char ret_name[SEGMENT_NAME_SIZE]);

/* From here on whoever opens this folder waits until the descriptor is closed: as on a disk that
 * does not answer. */
int gate_rig_hold_up(const char *folder);

/* Descriptors and resident memory (KiB) of the gate. Files that were lent are closed a moment
 * later, by a thread. */
int gate_rig_fds(struct gate_rig *rig);
void gate_rig_await_fds(struct gate_rig *rig, int count);
void gate_rig_await_fewer_fds(struct gate_rig *rig, int most);
long gate_rig_memory(const struct gate_rig *rig);

#endif
